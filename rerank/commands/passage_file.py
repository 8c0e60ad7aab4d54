"""Read passages for a subcommand from a file or stdin, one a line.

Enters: lines of plain text or JSON objects. Leaves: strings and dicts, as `as_candidates` takes.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def read_passages(path: Path | None, option: str = "--passages") -> list[Any]:
    """The passages of the file `path` (None: stdin), unchecked, empty lines left out.

    A line that starts like a JSON object must be one. Raises `ValueError` naming `option` for a
    missing file, and the line for broken JSON.
    """
    lines = read_text(path, option).split("\n")  # JSON may hold other line breaks
    return list(_passages(lines, str(path or "stdin")))


def stream_passages(path: Path, option: str = "--passages") -> Iterator[Any]:
    """As `read_passages`, a line at a time."""
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            yield from _passages(lines, str(path))
    except FileNotFoundError:
        raise ValueError(f"{option}: {path} does not exist") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None


def _passages(lines: Iterable[str], where: str) -> Iterator[Any]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if not line.lstrip().startswith("{"):
            yield line.removesuffix("\n")
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}:{number}: broken JSON: {error.msg}") from None


def read_text(path: Path | None, option: str) -> str:
    """The text of the file `path` (None: stdin); raises `ValueError` if it has none in UTF-8."""
    try:
        return sys.stdin.read() if path is None else path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{option}: {path} does not exist") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path or 'stdin'} is not UTF-8") from None
