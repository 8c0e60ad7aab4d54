"""Parquet with the columns of JSON Lines, read a record batch at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from configs.formats.fields import ID_FIELDS, TEXT_FIELDS, text_fields, with_id
from index.records import Passage
from retrieval.corpora.records import Record

_ROWS_PER_BATCH = 4096
# What the library raises for bytes that are no Parquet; names that are not UTF-8 among them.
_DAMAGE = (pa.ArrowException, OSError, ValueError)


def read_parquet(path: Path) -> Iterator[Record]:
    """The records of a Parquet file; memory holds one batch of rows.

    Ids are strings, whole numbers, or bytes that are UTF-8. Raises `ValueError` naming the file
    where it is none, lacks the columns, or is damaged.
    """
    try:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
    except _DAMAGE as error:
        raise ValueError(f"{path} is no Parquet file: {_reason(error)}") from None
    id_field = next((name for name in ID_FIELDS if name in names), None)
    text_field = next((name for name in TEXT_FIELDS if name in names), None)
    if id_field is None or text_field is None:
        raise ValueError(
            f"{path} has the columns {', '.join(sorted(names))}; wanted one of "
            f"{', '.join(ID_FIELDS)} and one of {', '.join(TEXT_FIELDS)}"
        )
    columns = [id_field, text_field, *({"title"} & names)]
    row = 0
    try:
        for batch in file.iter_batches(_ROWS_PER_BATCH, columns=columns):
            for fields in batch.to_pylist():
                row += 1
                yield _record(f"{path}:row {row}", fields)
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged after row {row}: {_reason(error)}") from None


def _record(place: str, fields: dict[str, Any]) -> Record:
    try:
        found = text_fields({name: _text(name, value) for name, value in fields.items()})
        return Record(place, Passage(with_id(found), found.title, found.text))
    except ValueError as error:
        return Record(place, None, str(error))


def _text(name: str, value: Any) -> Any:
    """Bytes as the text they spell: writers without a string type leave these."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is bytes that are not UTF-8") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
