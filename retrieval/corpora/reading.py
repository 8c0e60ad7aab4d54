"""One reading of a corpus: what is wanted of it besides passages, and how far it has come.

Enters: the columns to keep, a limit; from the reader, a count or an open file. Leaves: how many
passages there will be in all, as far as that is known without reading them twice.

    reading = Reading(Columns(["year"]), limit=1000)
    for read, passage in enumerate(open_corpus("my.jsonl", reading=reading), 1):
        print(read, "of", reading.expected(read))
"""

import io
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from index.manifest.columns import Columns


@dataclass
class Reading:
    """What is read of a corpus.

    `columns` are the fields that become a passage's metadata; with `needed` a source that can't
    have them is refused, else its passages lack them. No more than `limit` passages are read.
    `total` is how many the source says it has. Of each record come `passages_a_record` passages on
    average: more than one where documents are cut.
    """

    columns: Columns = field(default_factory=Columns)
    needed: bool = False
    limit: int | None = None
    total: int | None = None
    passages_a_record: float = 1.0
    _file: io.BufferedReader | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}, wanted at least 1")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields to keep."""
        return self.columns.names

    def opened(self, file: io.BufferedReader) -> None:
        """Take note of the file that the passages come from, whose bytes may be packed."""
        self._file = file

    def missing(self, source: str, names: Sequence[str], why: str) -> None:
        """Raise `ValueError` where columns are needed, and a source can't have those of `names`."""
        if self.needed and names:
            raise ValueError(f"{source} has no field {names[0]!r} to keep: {why}")

    def expected(self, read: int) -> int | None:
        """How many passages there will be, when `read` of them have been; None: nobody knows.

        Where the source has no count it is as many as its file holds at the rate until now.
        """
        counts = [count for count in (self.total, self.limit) if count is not None]
        known = [round(count * self.passages_a_record) for count in counts]
        if self.total is None and (part := self._part_read()):
            known.append(max(read, round(read / part)))
        return min(known, default=None)

    def _part_read(self) -> float | None:
        """How much of the file was read, up to 1; None where it is a pipe, or there is none."""
        if self._file is None:
            return None
        if self._file.closed:
            return 1.0
        try:
            status = os.fstat(self._file.fileno())
            whole = status.st_size if stat.S_ISREG(status.st_mode) else 0
            return self._file.tell() / whole if whole else None
        except OSError:  # a stand-in for stdin
            return None


def kept_fields(fields: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The fields `names` of a record, or of the object `metadata` in it; those that it has."""
    inner = fields.get("metadata")
    both = (inner if isinstance(inner, Mapping) else {}, fields)
    return {name: each[name] for name in names for each in both if name in each}
