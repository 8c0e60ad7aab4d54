"""The file of a FAISS index: written whole, read back mapped where FAISS can.

Enters: an index, or the name of a file. Leaves: a file, or the index that it promises to be.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import faiss

from index.dense.gpu import to_gpus
from index.disk.files import file_of

# FAISS makes tables when it reads PQ fast-scan: 16 numbers for each one of the lists' centres.
_TABLES = 16
_LIMITS = ("deserialization_vector_byte_limit", "deserialization_loop_limit")


def write_faiss(built: faiss.Index, file: BinaryIO) -> None:
    """Write an index into an open file.

    FAISS's own writer says nothing when the disk is full and the last buffer is lost.
    """
    faiss.write_index(built, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def read_faiss(data: Path, name: str, dimension: int, passages: int) -> faiss.Index:
    """Open the index `name` in the folder `data`, on the GPUs when this faiss has any.

    Vectors, codes and links stay in the file, mapped, and cost memory where a search touches them;
    FAISS copies those of PQ fast-scan all the same. Raises `ValueError` when the file is damaged,
    or holds anything but the inner products of `passages` vectors of that dimension.
    """
    path = file_of(data, name)
    # The first two keep lists that lie in another file from being looked for elsewhere, or written.
    flags = faiss.IO_FLAG_ONDISK_SAME_DIR | faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_MMAP_IFC
    # Tables that inner products don't need, where FAISS can do without.
    flags |= faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
    try:
        with _reading_at_most(_TABLES * path.stat().st_size):
            read = faiss.read_index(str(path), flags)
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"{name} can't be read: {reason(error)}") from None
    found = (read.ntotal, read.d, read.metric_type, read.is_trained)
    if found != (passages, dimension, faiss.METRIC_INNER_PRODUCT, True):
        raise ValueError(
            f"{name} holds {read.ntotal} vectors of {read.d} dimensions under FAISS's metric "
            f"{read.metric_type}, wanted {passages} of {dimension} under "
            f"{faiss.METRIC_INNER_PRODUCT}"
        )
    return to_gpus(read)


@contextlib.contextmanager
def _reading_at_most(size: int) -> Iterator[None]:
    """Let FAISS take no length in a file for more than `size` bytes.

    Else it first fills the memory that a damaged length asks for. Older FAISS has no such limits.
    """
    limits = [name for name in _LIMITS if hasattr(faiss, f"set_{name}")]
    before = [getattr(faiss, f"get_{name}")() for name in limits]
    try:
        for name in limits:
            getattr(faiss, f"set_{name}")(size)
        yield
    finally:
        for name, limit in zip(limits, before, strict=True):
            getattr(faiss, f"set_{name}")(limit)


def reason(error: Exception) -> str:
    """What FAISS complains of, without where in its own code."""
    text = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return re.sub(r"^Error in .*? at \S+:\d+: ", "", text)
