"""Write files and folders so that a reader sees them whole or not at all.

Enters: a path and what to write. Leaves: the file or folder, renamed into place once it is on disk.

    with replacing(Path("note.txt")) as file: file.write(b"all of it")
"""

import gzip
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of `path`; on a clean exit it is synced and takes the name.

    On an exception the neighbour is removed and whatever `path` held stays; an `OSError` (a full
    disk, say) names `path`. A name that ends in `.gz` is compressed, without a time stamp, so equal
    content gives equal bytes.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            if target.suffix == ".gz":
                with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                    yield packed  # type: ignore[misc]  # GzipFile writes bytes as IO[bytes] does
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; a result is as readable as any other file of its owner.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        _sync(target.parent)  # without this the rename itself may be lost with the power
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            # A full disk names no file by itself.
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside `path`; on a clean exit it is synced and takes the name.

    Raises `ValueError` when there is something at `path` already.
    """
    if path.exists():
        raise ValueError(f"{path} exists; remove it, or name another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        for entry in (*temporary.rglob("*"), temporary):
            _sync(entry)
        temporary.rename(path)
        _sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
