"""A writer that dies at any of its steps, as it touches files through `Path` alone; a full disk."""

import contextlib
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_STEPS = ("open", "replace", "rename", "unlink", "rmdir", "mkdir")


class Killed(BaseException):
    """The process is gone: nothing that it would still do happens."""


def count_steps(
    monkeypatch: pytest.MonkeyPatch, last: float, error: type[BaseException] = Killed
) -> list[str]:
    """Let the process die before its step `last`; gives the list of steps that were done.

    After another `error` than death it tidies up.
    """
    done: list[str] = []
    raised: list[type[BaseException]] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(path: Path, *arguments: Any, **options: Any) -> Any:
            if name == "open" and "x" not in "".join(map(str, arguments)):
                return call(path, *arguments, **options)
            if len(done) >= last and (error is Killed or not raised):
                raised.append(error)
                raise error
            done.append(f"{name} {path.name}")
            return call(path, *arguments, **options)

        return step

    for name in _STEPS:
        monkeypatch.setattr(Path, name, counted(name, getattr(Path, name)))
    return done


def contents(folder: Path) -> dict[Path, bytes | None]:
    """Every file and folder in `folder`, by its name."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk is to the one who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
