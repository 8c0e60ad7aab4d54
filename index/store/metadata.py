"""Columns of metadata on the disk: one file more a shard, and which rows a condition keeps.

Enters: passages whose metadata has a value or None for every column. Leaves:
`metadata-00000.arrow` (Arrow IPC, mapped when read), values by row, masks by condition. A shard's
file says of each column what its own values are, which may be less than the index knows: a column
without a value has the type `null`, and whole numbers may stand where other shards have fractions.

    IndexMetadata(folder, manifest).masks("year >= 2020 and lang = 'en'")  # bool [n] a segment
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from index.disk.files import file_of, sha256_of, write_atomic
from index.manifest.columns import UNKNOWN, ColumnRecord, type_of_all, wider_type
from index.manifest.manifest import Manifest
from index.manifest.segments import ShardRecord, metadata_file
from index.records import Passage, Value
from index.store.where import parse_where

Where: TypeAlias = str | pc.Expression
_ARROW = {
    "string": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "time UTC": pa.timestamp("us", "UTC"),
    UNKNOWN: pa.null(),
}
_NAMES = {arrow: name for name, arrow in _ARROW.items()}
_MASKS_KEPT = 4


def write_metadata(data: Path, number: int, passages: Sequence[Passage]) -> str | None:
    """Write the metadata of shard `number`; its file's digest, or None where no passage has any.

    The same passages give the same bytes.
    """
    names = dict.fromkeys(chain.from_iterable(passage.metadata for passage in passages))
    if not names:
        return None
    columns = {name: _array([passage.metadata.get(name) for passage in passages]) for name in names}
    table, path = pa.table(columns), data / metadata_file(number)
    write_atomic(path, lambda file: _write_table(file, table))
    return sha256_of(path)


def _array(values: list[Value]) -> pa.Array:
    kind = type_of_all(values)
    if kind == "float":  # Arrow refuses whole numbers that a float rounds
        values = [None if value is None else float(value) for value in values]  # type: ignore[arg-type]
    return pa.array(values, _ARROW[kind])


def _write_table(file: BinaryIO, table: pa.Table) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def with_metadata(data: Path, shard: ShardRecord, passages: list[Passage]) -> list[Passage]:
    """The passages of a shard with the metadata that was written with them, if any was.

    Raises `ValueError` for a damaged file.
    """
    if not shard.metadata_sha256:
        return passages
    pairs = zip(passages, _Mapped(data, shard).checked().to_pylist(), strict=True)
    return [passage._replace(metadata=row) for passage, row in pairs]


def columns_of(
    data: Path, shards: Sequence[ShardRecord], known: Sequence[ColumnRecord] | None = None
) -> tuple[ColumnRecord, ...]:
    """The columns of the shards in the folder `data`, each of the type that holds its values.

    `known` are those of the index that the shards are added to (None: there is none): columns and
    types stay, but for a type that no value has decided yet. Raises `ValueError` for a shard that
    has other columns, or values that the type can't hold.
    """
    types = {each.name: each.type for each in known or ()}
    for number, shard in enumerate(shards):
        found = _types(data, shard)
        if known is None and number == 0:
            types = dict.fromkeys(found, UNKNOWN)
        if list(found) != list(types):
            raise ValueError(
                f"{shard.passages} has the columns {', '.join(found) or 'none'} of metadata, "
                f"wanted {', '.join(types) or 'none'}"
            )
        for name, kind in found.items():
            wider = wider_type(types[name], kind)
            fixed = known is not None and types[name] != UNKNOWN
            if wider is None or (fixed and wider != types[name]):
                raise ValueError(f"{shard.metadata}: {name!r} is {kind}, wanted {types[name]}")
            types[name] = wider
    return tuple(ColumnRecord(name, kind) for name, kind in types.items())


def _types(data: Path, shard: ShardRecord) -> dict[str, str]:
    if not shard.metadata_sha256:
        return {}
    return dict(_Mapped(data, shard).types)


class IndexMetadata:
    """The columns of all passages of an index, by segment and row, deleted ones among them."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Raises `ValueError` for a missing file; what is in one is checked when it is asked."""
        self._columns = manifest.columns
        self._segments = [
            _SegmentMetadata(folder / segment.data, segment.shards, manifest.columns)
            for segment in manifest.segments
            if manifest.columns
        ]
        self._kept: list[tuple[pc.Expression, list[np.ndarray]]] = []

    def row(self, segment: int, row: int) -> dict[str, Value]:
        """The metadata of one passage, None where it has no value; empty without columns."""
        return self._segments[segment].row(row) if self._columns else {}

    def masks(self, where: Where) -> list[np.ndarray]:
        """Where `where` is true, bool [n] for each segment: not where it is false, or unknown.

        Raises `TypeError` for what is no condition, `ValueError` for one that does not fit the
        columns. The last few are remembered.
        """
        if not self._columns:
            raise ValueError("the index has no metadata to search by; build it with --keep")
        if isinstance(where, str):
            where = parse_where(where, {column.name: column.type for column in self._columns})
        elif not isinstance(where, pc.Expression):
            raise TypeError(f"where is a {type(where).__name__}, wanted a text or an Expression")
        for expression, masks in self._kept:
            if expression.equals(where):
                return masks
        masks = [_mask(segment.table, where) for segment in self._segments]
        self._kept = [*self._kept, (where, masks)][-_MASKS_KEPT:]
        return masks

    def check(self) -> None:
        """Read all of it; raises `ValueError` for a file that is damaged inside."""
        for segment in self._segments:
            _ = segment.table


class _SegmentMetadata:
    def __init__(
        self, data: Path, shards: Sequence[ShardRecord], columns: Sequence[ColumnRecord]
    ) -> None:
        self.parts = [_Part(data, shard, columns) for shard in shards]
        self._starts = np.cumsum([0, *(shard.rows for shard in shards)])

    def row(self, row: int) -> dict[str, Value]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        (found,) = self.parts[part].table.slice(row - int(self._starts[part]), 1).to_pylist()
        return found

    @cached_property
    def table(self) -> pa.Table:
        """All shards' columns, still where they are mapped."""
        return pa.concat_tables(part.table for part in self.parts)


class _Part:
    """One shard's file: mapped when the index is opened, read when it is first asked."""

    def __init__(self, data: Path, shard: ShardRecord, columns: Sequence[ColumnRecord]) -> None:
        self._file = _Mapped(data, shard)
        self._columns = columns

    @cached_property
    def table(self) -> pa.Table:
        """The columns in the index's own types.

        Raises `ValueError` for a file that is not what its record and the manifest promise.
        """
        found = self._file.types
        narrower = [
            (each.name, kind)
            for each, (_, kind) in zip(self._columns, found, strict=False)
            if wider_type(each.type, kind) == each.type
        ]
        if narrower != found or len(found) != len(self._columns):
            raise ValueError(f"{self._file.name} holds {found!r:.120}")
        schema = pa.schema([(each.name, _ARROW[each.type]) for each in self._columns])
        return self._file.checked().cast(schema, safe=False)


class _Mapped:
    """A shard's file, mapped; nothing of it is looked at before it is asked for."""

    def __init__(self, data: Path, shard: ShardRecord) -> None:
        self._shard = shard
        self.name = f"{data.name}: {shard.metadata}"
        # The map outlives the file's descriptor, and its name.
        with self._readable(), pa.memory_map(str(file_of(data, shard.metadata))) as source:
            self._bytes = source.read_buffer()

    @cached_property
    def _table(self) -> pa.Table:
        with self._readable():
            table = pa.ipc.open_file(self._bytes).read_all()
            table.validate()
            kinds = table.schema.types
            if len(table) != self._shard.rows or not set(kinds) <= set(_NAMES):
                raise ValueError(f"it holds {len(table)} rows of {kinds!r:.80}")
        return table

    @property
    def types(self) -> list[tuple[str, str]]:
        """The name of each column, and the type of its values."""
        return [(field.name, _NAMES[field.type]) for field in self._table.schema]

    def checked(self) -> pa.Table:
        """All of it; raises `ValueError` where a bit has changed: each may decide about a hit."""
        if hashlib.sha256(self._bytes).hexdigest() != self._shard.metadata_sha256:
            raise ValueError(f"{self.name} has changed")
        with self._readable():
            self._table.validate(full=True)
        return self._table

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"{self.name} can't be read: {reason}") from None


def _mask(table: pa.Table, expression: pc.Expression) -> np.ndarray:
    from pyarrow import acero  # a third of a second, and few searches have a condition

    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    project = acero.Declaration("project", acero.ProjectNodeOptions([expression], ["kept"]))
    try:
        # In one thread the rows come in their order.
        column = acero.Declaration.from_sequence([source, project]).to_table(use_threads=False)[0]
    except pa.ArrowException as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        known = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
        raise ValueError(f"where {str(expression)!r:.200}: {reason}; of {known}") from None
    if column.type != pa.bool_():
        raise ValueError(f"where {str(expression)!r:.200} is {column.type}, wanted true or false")
    return pc.fill_null(column, False).to_numpy()
