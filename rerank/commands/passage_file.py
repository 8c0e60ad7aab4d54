"""Read passages for a subcommand from a file or stdin, one a line.

Enters: lines of plain text, JSON objects, or TSV. Leaves: `Candidate`s.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.formats.checks import named_type
from configs.formats.lines import parse_json, text_lines
from configs.formats.tsv import text_columns
from rerank.prompt.candidates import Candidate, as_candidate

_JSON_ENDINGS = (".jsonl", ".ndjson", ".json")


def read_passages(path: Path | None) -> list[Candidate]:
    """The passages of the file `path` (None: stdin); raises `ValueError` if there is none."""
    passages = list(stream_passages(path))
    if not passages:
        raise ValueError(f"{path or 'stdin'} holds no passage")
    return passages


def stream_passages(path: Path | None) -> Iterator[Candidate]:
    """The passages of the file `path` (None: stdin), a line at a time.

    One without an id is called by its number, from 0. Raises `ValueError` naming file and line for
    a broken one, and for an id that occurred before.
    """
    lines: dict[str, int] = {}
    for place, (number, row) in enumerate(read_rows(path)):
        try:
            passage = as_candidate(row, place)
            check_new(passage.id, number, lines)
        except ValueError as error:
            raise ValueError(f"{path or 'stdin'}:{number}: {error}") from None
        yield passage


def read_rows(path: Path | None) -> Iterator[tuple[int, str | dict[str, Any]]]:
    """Numbers and contents of the lines that are not blank: a text, or an object's fields.

    The file's ending tells JSON Lines and TSV, each perhaps `.gz`; elsewhere a line that starts
    like a JSON object must be one. Raises `ValueError` naming file and line.
    """
    ending = ending_of(path)
    for number, line in text_lines(path):
        try:
            yield number, _row(line, ending)
        except ValueError as error:
            raise ValueError(f"{path or 'stdin'}:{number}: {error}") from None


def ending_of(path: Path | None) -> str:
    """A file's ending, that of what is packed for a `.gz`; "" for stdin."""
    return "" if path is None else Path(path.name.removesuffix(".gz")).suffix


def check_new(id_: str, number: int, lines: dict[str, int]) -> None:
    """Remember in `lines` that line `number` has `id_`; raises `ValueError` if another had."""
    earlier = lines.setdefault(id_, number)
    if earlier != number:
        raise ValueError(f"id {id_!r} occurred before, on line {earlier}")


def _row(line: str, ending: str) -> str | dict[str, Any]:
    if ending == ".tsv":
        return text_columns(line)._asdict()
    if ending not in _JSON_ENDINGS and not line.lstrip().startswith("{"):
        return line
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError(f"{named_type(row)}, wanted an object with a text")
    return row
