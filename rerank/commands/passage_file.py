"""Read passages for a subcommand from a file or stdin, one a line.

Enters: lines of plain text or JSON objects. Leaves: strings and dicts, as `as_candidates` takes.
"""

import json
import sys
from pathlib import Path
from typing import Any


def read_passages(path: Path | None, option: str = "--passages") -> list[Any]:
    """The passages of the file `path` (None: stdin), unchecked, empty lines left out.

    A line that starts like a JSON object must be one. Raises `ValueError` naming `option` for a
    missing file, and the line for broken JSON.
    """
    text = read_text(path, option)
    passages: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):  # JSON may hold other line breaks
        if not line.strip():
            continue
        if not line.lstrip().startswith("{"):
            passages.append(line)
            continue
        try:
            passages.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path or 'stdin'}:{number}: broken JSON: {error.msg}") from None
    return passages


def read_text(path: Path | None, option: str) -> str:
    """The text of the file `path` (None: stdin); raises `ValueError` if it has none in UTF-8."""
    try:
        return sys.stdin.read() if path is None else path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{option}: {path} does not exist") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path or 'stdin'} is not UTF-8") from None
