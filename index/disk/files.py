"""Write files so that a reader, or a killed writer, never sees half of one; find them again.

Enters: bytes, or a function that fills a file. Leaves: a file that appeared by rename.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

LOCK = ".lock"


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, put it on the disk, rename it to `path`.

    Raises `OSError` naming `path` when the disk is full, say.
    """
    unfinished = unfinished_name(path)
    try:
        with naming(path):
            # Made anew: a link of that name would have its target overwritten.
            unfinished.unlink(missing_ok=True)
            with unfinished.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)


def unfinished_name(path: Path) -> Path:
    """What `path` is called while it is written; a killed writer leaves it."""
    return path.with_name(f"{path.name}.unfinished")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an `OSError` that is raised inside (a full disk) name the file that it is about."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def sync_folder(folder: Path) -> None:
    """Put a folder's own entries on the disk, without which a rename may be lost."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_of(data: Path, name: str) -> Path:
    """The file `name` of an index's folder of data.

    Raises `ValueError` when it is missing, no file, or a link that leads out of the index.
    """
    path = data / name
    if not path.is_file():
        raise ValueError(f"{name} is missing")
    if not path.resolve().is_relative_to(data.parent.resolve()):
        raise ValueError(f"{name} is a link that leads out of the index")
    return path


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(data: Path, name: str, digest: str) -> None:
    """Raise `ValueError` where `file_of` does, and when the file has another SHA-256."""
    if sha256_of(file_of(data, name)) != digest:
        raise ValueError(f"{name} has changed")


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the one right to write into `folder`; it ends with the process, even a killed one.

    Raises `ValueError` when another process holds it: which one, and since when.
    """
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process is writing in {folder} ({_owner(lock)}); wait for it, or name "
                f"another folder"
            ) from None
        _set_owner(lock)
        try:
            yield
        finally:
            os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def _set_owner(lock: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(lock, 0)  # of one that was killed
    with contextlib.suppress(OSError):  # a full disk keeps nobody from holding a lock
        os.pwrite(lock, json.dumps(owner).encode(), 0)


def _owner(lock: int) -> str:
    try:
        owner = json.loads(os.pread(lock, 1000, 0))
        return "process {pid} on {host}, since {since}".format(**owner)
    except (ValueError, TypeError, LookupError):
        return "it has not said which"  # yet, or there was no place
