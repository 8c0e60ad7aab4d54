"""JSON Lines: one object a line with `_id`, `id` or `docid`, `title`, and `text` or `contents`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from index.records import Passage
from retrieval.corpora.records import NOT_UTF8, Record, text_lines

ID_FIELDS = ("_id", "id", "docid")
TEXT_FIELDS = ("text", "contents")


def read_jsonl(path: Path) -> Iterator[Record]:
    """The records of a `.jsonl` or `.jsonl.gz` file; blank lines are passed over."""
    for place, line in text_lines(path):
        if line is None:
            yield Record(place, None, NOT_UTF8)
        elif line.strip():
            try:
                yield _record(place, json.loads(line))
            except json.JSONDecodeError as error:
                yield Record(place, None, f"broken JSON: {error.msg} at column {error.colno}")
            except (ValueError, RecursionError) as error:  # endless digits or brackets
                yield Record(place, None, f"broken JSON: {error}")


def _record(place: str, fields: Any) -> Record:
    if not isinstance(fields, dict):
        return Record(place, None, f"a JSON {type(fields).__name__}, wanted an object")
    id_field = next((name for name in ID_FIELDS if name in fields), None)
    text_field = next((name for name in TEXT_FIELDS if name in fields), None)
    if id_field is None:
        return Record(place, None, f"no id: none of the fields {', '.join(ID_FIELDS)}")
    if text_field is None:
        return Record(place, None, f"no text: none of the fields {', '.join(TEXT_FIELDS)}")
    id_, title, text = fields[id_field], fields.get("title") or "", fields[text_field]
    if not isinstance(id_, str | int) or isinstance(id_, bool):
        return Record(place, None, f"{id_field} is {id_!r}, wanted a string")
    for name, value in (("title", title), (text_field, text)):
        if not isinstance(value, str):
            return Record(place, None, f"{name} is a {type(value).__name__}, wanted a string")
    return Record(place, Passage(str(id_), title, text))
