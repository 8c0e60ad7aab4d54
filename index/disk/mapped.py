"""Files of an index, mapped into memory from the moment it is opened, and none of them held open.

Enters: names of files. Leaves: their bytes, which cost no memory until they are touched. A mapping
outlives its file's descriptor, of which a process may have only some thousand, and the file's name:
what is deleted after the index was opened can still be read.

    MappedFiles(Path("my-index/data-0001"), ["vectors-00000.arrow"])[0]
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from index.disk.files import file_of

# Linux allows a process 65,530 mappings; what is beyond is opened when it is touched.
MOST_MAPPED = 8_192


class MappedFiles:
    """The bytes of some files of the folder `data`, by number."""

    def __init__(self, data: Path, names: Sequence[str]) -> None:
        """Raises `ValueError` where `file_of` does, for any of them."""
        self._data, self._names = data, names
        inside = data.resolve().is_relative_to(data.parent.resolve())
        for name in names:
            # `file_of` resolves every path, ten times as slow as this, and only links need it.
            if not (inside and _is_plain(f"{data}/{name}")):
                file_of(data, name)
        self._mapped = [mapped(data, name) for name in names[:MOST_MAPPED]]

    def __getitem__(self, number: int) -> pa.Buffer:
        """All bytes of a file; raises `ValueError` for one beyond the mapped ones that is gone."""
        if number < len(self._mapped):
            return self._mapped[number]
        file_of(self._data, self._names[number])
        return mapped(self._data, self._names[number])


def _is_plain(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def mapped(data: Path, name: str) -> pa.Buffer:
    """The bytes of a file, mapped; raises `ValueError` when it can't be read or is empty."""
    with readable(name), pa.memory_map(f"{data}/{name}") as file:
        return file.read_buffer()


@contextlib.contextmanager
def readable(name: str) -> Iterator[None]:
    """Let what Arrow raises about the file `name` be a `ValueError` of one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name} can't be read: {reason}") from None
