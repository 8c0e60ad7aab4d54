"""Corpora of one passage a line: JSON Lines, and TSV as MS MARCO writes it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from configs.formats.fields import TextFields, text_fields, with_id
from configs.formats.lines import NOT_UTF8, parse_json, read_lines
from configs.formats.tsv import text_columns
from index.records import Passage
from retrieval.corpora.records import Record


def read_jsonl(path: Path) -> Iterator[Record]:
    """The records of a JSON Lines file, plain or gzipped: objects with an id and a text."""
    return _records(path, lambda line: text_fields(parse_json(line)))


def read_tsv(path: Path) -> Iterator[Record]:
    """The records of a TSV file, plain or gzipped: an id, perhaps a title, and a text a line."""
    return _records(path, text_columns)


def _records(path: Path, fields_of: Callable[[str], TextFields]) -> Iterator[Record]:
    """A record a line; blank lines are passed over."""
    for number, line in read_lines(path):
        place = f"{path}:{number}"
        if line is None:
            yield Record(place, None, NOT_UTF8)
        elif line.strip():
            try:
                found = fields_of(line)
                passage = Passage(with_id(found), found.title, found.text)
            except ValueError as error:
                yield Record(place, None, str(error))
            else:
                yield Record(place, passage)
