"""Parquet with the columns of JSON Lines, read a record batch at a time."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from index.records import Passage
from retrieval.corpora.jsonl import ID_FIELDS, TEXT_FIELDS
from retrieval.corpora.records import Record

_ROWS_PER_BATCH = 4096


def read_parquet(path: Path) -> Iterator[Record]:
    """The records of a Parquet file; memory holds one batch of rows."""
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file: {error}") from None
    names = set(file.schema_arrow.names)
    id_field = next((name for name in ID_FIELDS if name in names), None)
    text_field = next((name for name in TEXT_FIELDS if name in names), None)
    if id_field is None or text_field is None:
        raise ValueError(
            f"{path} has the columns {', '.join(sorted(names))}; wanted one of "
            f"{', '.join(ID_FIELDS)} and one of {', '.join(TEXT_FIELDS)}"
        )
    columns = [id_field, text_field, *({"title"} & names)]
    row = 0
    for batch in file.iter_batches(_ROWS_PER_BATCH, columns=columns):
        for fields in batch.to_pylist():
            row += 1
            place = f"{path}:row {row}"
            id_, text, title = fields[id_field], fields[text_field], fields.get("title") or ""
            if id_ is None or not isinstance(text, str) or not isinstance(title, str):
                yield Record(place, None, f"{id_field} or {text_field} is missing or no string")
            else:
                yield Record(place, Passage(str(id_), title, text))
