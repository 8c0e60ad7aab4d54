"""The fields of a JSON object, or of a Parquet row, that make a passage or a query.

Enters: a mapping. Leaves: id, title and text, checked for their types.

    text_fields({"_id": "p1", "text": "Pears are ripe."})  # ("p1", "", "Pears are ripe.")
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from configs.formats.checks import as_id

# The first of these that is there counts.
ID_FIELDS = ("_id", "id", "docid")
TEXT_FIELDS = ("text", "contents")
QUERY_ID_FIELDS = ("_id", "id", "qid", "query_id")
QUERY_FIELDS = ("text", "query", "contents")


class TextFields(NamedTuple):
    """What was found; `id` is None where there is no such field, or it is null."""

    id: str | None
    title: str
    text: str


def text_fields(
    fields: Any,
    id_names: Iterable[str] = ID_FIELDS,
    text_names: Iterable[str] = TEXT_FIELDS,
) -> TextFields:
    """The id, title and text of a mapping.

    Raises `ValueError` naming the field that is missing or of another type.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(f"a {type(fields).__name__}, wanted an object with an id and a text")
    id_field = next((name for name in id_names if fields.get(name) is not None), None)
    text_field = next((name for name in text_names if name in fields), None)
    if text_field is None:
        raise ValueError(f"no text: none of the fields {', '.join(text_names)}")
    title, text = fields.get("title"), fields[text_field]
    for name, value in (("title", "" if title is None else title), (text_field, text)):
        if not isinstance(value, str):
            raise ValueError(f"{name} is a {type(value).__name__}, wanted a string")
    return TextFields(None if id_field is None else as_id(fields[id_field]), title or "", text)


def with_id(found: TextFields, id_fields: Iterable[str] = ID_FIELDS) -> str:
    """The id of `found`; raises `ValueError` where it has none."""
    if found.id is None:
        raise ValueError(f"no id: none of the fields {', '.join(id_fields)}")
    return found.id
