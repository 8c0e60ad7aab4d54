"""Parquet with the columns of JSON Lines, read a record batch at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from configs.formats.fields import ID_FIELDS, TEXT_FIELDS, text_fields, with_id
from index.records import Passage
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Record

_ROWS_PER_BATCH = 4096
# What the library raises for bytes that are no Parquet; names that are not UTF-8 among them.
_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError)


def read_parquet(path: Path, reading: Reading) -> Iterator[Record]:
    """The records of a Parquet file; memory holds one batch of rows.

    Ids are strings, whole numbers, or bytes that are UTF-8. Raises `ValueError` naming the file
    where it is none, lacks the columns, or is damaged.
    """
    try:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        reading.total = file.metadata.num_rows
    except _DAMAGE as error:
        raise ValueError(f"{path} is no Parquet file: {_reason(error)}") from None
    id_field = next((name for name in ID_FIELDS if name in names), None)
    text_field = next((name for name in TEXT_FIELDS if name in names), None)
    if id_field is None or text_field is None:
        raise ValueError(
            f"{path} has the columns {', '.join(sorted(names))}; wanted one of "
            f"{', '.join(ID_FIELDS)} and one of {', '.join(TEXT_FIELDS)}"
        )
    missing = [name for name in reading.names if name not in names]
    reading.missing(str(path), missing, f"its columns are {', '.join(sorted(names))}")
    columns = [id_field, text_field, *({"title"} & names)]
    kept = [name for name in reading.names if name in names]
    row = 0
    try:
        for batch in file.iter_batches(_ROWS_PER_BATCH, columns=list({*columns, *kept})):
            table = _in_microseconds(pa.table(batch))
            texts = table.select(columns).to_pylist()
            for fields, metadata in zip(texts, table.select(kept).to_pylist(), strict=True):
                row += 1
                yield _record(f"{path}:row {row}", fields, metadata)
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged after row {row}: {_reason(error)}") from None


def _record(place: str, fields: dict[str, Any], metadata: dict[str, Any]) -> Record:
    try:
        found = text_fields({name: _text(name, value) for name, value in fields.items()})
        kept = {name: _text(name, value) for name, value in metadata.items()}
        return Record(place, Passage(with_id(found), found.title, found.text, kept))
    except ValueError as error:
        return Record(place, None, str(error))


def _in_microseconds(table: pa.Table) -> pa.Table:
    """Times of nanoseconds cut to what Python's own hold: else they would be refused."""
    for place, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            micro = table[place].cast(pa.timestamp("us", column.type.tz), safe=False)
            table = table.set_column(place, column.name, micro)
    return table


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
