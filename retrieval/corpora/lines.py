"""Corpora of one passage a line: JSON Lines, and TSV as MS MARCO writes it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from configs.formats.fields import text_fields, with_id
from configs.formats.lines import NOT_UTF8, parse_json, read_lines
from configs.formats.tsv import text_columns
from index.records import Passage
from retrieval.corpora.reading import Reading, kept_fields
from retrieval.corpora.records import Record


def read_jsonl(path: Path | None, reading: Reading) -> Iterator[Record]:
    """The records of a JSON Lines file, or of stdin: objects with an id and a text."""

    def passage(line: str) -> Passage:
        fields = parse_json(line)
        found = text_fields(fields)
        kept = kept_fields(fields, reading.names)
        return Passage(with_id(found), found.title, found.text, kept)

    return _records(path, passage, reading)


def read_tsv(path: Path, reading: Reading) -> Iterator[Record]:
    """The records of a TSV file, plain or gzipped: an id, perhaps a title, and a text a line."""
    reading.missing(str(path), reading.names, "TSV holds ids, titles and texts alone")

    def passage(line: str) -> Passage:
        found = text_columns(line)
        return Passage(with_id(found), found.title, found.text)

    return _records(path, passage, reading)


def _records(
    path: Path | None, passage_of: Callable[[str], Passage], reading: Reading
) -> Iterator[Record]:
    """A record a line; blank lines are passed over."""
    for number, line in read_lines(path, reading.opened):
        place = f"{path or 'stdin'}:{number}"
        if line is None:
            yield Record(place, None, NOT_UTF8)
        elif line.strip():
            try:
                yield Record(place, passage_of(line))
            except ValueError as error:
                yield Record(place, None, str(error))
