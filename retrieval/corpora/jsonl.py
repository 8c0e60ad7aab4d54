"""JSON Lines: one object a line with `_id`, `id` or `docid`, `title`, and `text` or `contents`."""

from collections.abc import Iterator
from pathlib import Path

from configs.formats.fields import text_fields, with_id
from configs.formats.lines import NOT_UTF8, parse_json, read_lines
from index.records import Passage
from retrieval.corpora.records import Record


def read_jsonl(path: Path) -> Iterator[Record]:
    """The records of a JSON Lines file, plain or gzipped; blank lines are passed over."""
    for number, line in read_lines(path):
        place = f"{path}:{number}"
        if line is None:
            yield Record(place, None, NOT_UTF8)
        elif line.strip():
            try:
                found = text_fields(parse_json(line))
                passage = Passage(with_id(found), found.title, found.text)
            except ValueError as error:
                yield Record(place, None, str(error))
            else:
                yield Record(place, passage)
