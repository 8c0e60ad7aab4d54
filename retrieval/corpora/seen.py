"""The ids that a corpus has had so far, in few bytes each.

Enters: ids, one by one. Leaves: whether one was there before.

    seen = SeenIds()
    seen.add("p1")
    "p1" in seen  # True

An id is remembered by 128 bits of its BLAKE2b. Of 64 bits two of a billion ids have the same ones
with a chance of 2.7 %, and a good passage would be refused; of 128 with one of 1.5e-21. Digests lie
in ordered arrays, 16 bytes each: in a Python set they would take some hundred.
"""

import struct
from bisect import bisect_left
from hashlib import blake2b

import numpy as np

_HALVES = struct.Struct("=QQ")
# The last ones wait in a set, and are put in order together: so many, or so small a share of all.
_WAITING, _WAITING_OF = 65_536, 64


class SeenIds:
    """A set of ids that only grows."""

    def __init__(self, waiting: int = _WAITING) -> None:
        self._most_waiting = waiting
        self._waiting: set[bytes] = set()
        # Of those in order the first halves, which decide the order, and the second ones.
        self._first = np.empty(0, np.uint64)
        self._second = np.empty(0, np.uint64)
        self._ordered = memoryview(b"")

    def __len__(self) -> int:
        return len(self._first) + len(self._waiting)

    def __contains__(self, id_: str) -> bool:
        digest = _digest(id_)
        if digest in self._waiting:
            return True
        first, second = _HALVES.unpack(digest)
        ordered = self._ordered
        place = bisect_left(ordered, first)
        while place < len(ordered) and ordered[place] == first:
            if self._second[place] == second:
                return True
            place += 1
        return False

    def add(self, id_: str) -> None:
        """Remember an id that is not there yet."""
        self._waiting.add(_digest(id_))
        if len(self._waiting) >= max(self._most_waiting, len(self._first) // _WAITING_OF):
            new = np.frombuffer(b"".join(self._waiting), np.uint64).reshape(-1, 2)
            new = new[new[:, 0].argsort()]
            places = self._first.searchsorted(new[:, 0])
            self._second = np.insert(self._second, places, new[:, 1])
            self._first = np.insert(self._first, places, new[:, 0])
            # Python's own search beats NumPy's for one number, and reads this fast.
            self._ordered = memoryview(self._first)  # type: ignore[arg-type]
            self._waiting.clear()


def _digest(id_: str) -> bytes:
    return blake2b(id_.encode(), digest_size=_HALVES.size).digest()
