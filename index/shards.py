"""Shards: the checkpoint unit of a build, and the passages and vectors read back from them.

Enters: passages and their vectors. Leaves: two files a shard, `vectors-00000.arrow` (Arrow IPC,
memory-mapped when read, so vectors cost no memory until they are touched) and
`passages-00000.parquet` (small row groups, so one passage is read without its neighbours).
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from index.files import file_of, sha256_of, write_atomic
from index.manifest import ShardRecord, shard_files
from index.metadata import with_metadata, write_metadata
from index.records import Passage

ROWS_PER_GROUP = 256
_PASSAGES = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.string())])


def write_shard(
    folder: Path, number: int, passages: Sequence[Passage], vectors: np.ndarray, truncated: int
) -> ShardRecord:
    """Write shard `number` of `passages` and their float32 `vectors` [n, d]."""
    vectors_file, passages_file, _ = shard_files(number)
    columns = zip(*(passage[:3] for passage in passages), strict=True)
    table = pa.table(
        {name: pa.array(column) for name, column in zip(_PASSAGES.names, columns, strict=True)},
        schema=_PASSAGES,
    )
    write_atomic(
        folder / passages_file,
        lambda file: pq.write_table(table, file, row_group_size=ROWS_PER_GROUP, compression="zstd"),
    )
    write_atomic(folder / vectors_file, lambda file: _write_vectors(file, vectors))
    return ShardRecord(
        vectors=vectors_file,
        passages=passages_file,
        rows=len(passages),
        truncated=truncated,
        vectors_sha256=sha256_of(folder / vectors_file),
        passages_sha256=sha256_of(folder / passages_file),
        metadata_sha256=write_metadata(folder, number, passages),
    )


def _write_vectors(file: BinaryIO, vectors: np.ndarray) -> None:
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    table = pa.table({"vector": column})
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Let what Arrow raises about the file `name` be a `ValueError` of one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name} can't be read: {reason}") from None


class VectorTable:
    """The float32 vectors of some shards, by row number, mapped from the disk and read-only."""

    def __init__(self, folder: Path, shards: Sequence[ShardRecord], dimension: int) -> None:
        """Raises `ValueError` for a file that is not what its record promises."""
        self.dimension = dimension
        self.parts = [_mapped_vectors(folder, shard, dimension) for shard in shards]
        self._starts = np.cumsum([0, *(len(part) for part in self.parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The vectors [n, d] of those rows; only they are read."""
        vectors = np.empty((len(rows), self.dimension), np.float32)
        for shard, mine, places in by_part(self._starts, rows):
            vectors[mine] = self.parts[shard][places]
        return vectors


def by_part(starts: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Rows, int64 [n], that are numbered through parts which begin at `starts`, part by part.

    Gives each part that has any, which of `rows` those are, bool [n], and their numbers inside it.
    """
    owners = np.searchsorted(starts, rows, side="right") - 1
    for owner in np.unique(owners).tolist():
        mine = owners == owner
        yield owner, mine, rows[mine] - starts[owner]


def _mapped_vectors(folder: Path, shard: ShardRecord, dimension: int) -> np.ndarray:
    path = file_of(folder, shard.vectors)
    wanted = pa.list_(pa.float32(), dimension)
    with _readable(path.name):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        if table.schema.names != ["vector"] or table.schema.types != [wanted]:
            kinds = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
            raise ValueError(f"{path.name} holds {kinds:.120}, wanted vector: {wanted}")
        table.validate()
        column = table.column("vector").combine_chunks()
        values = column.flatten()
    if len(table) != shard.rows or column.null_count or len(values) != shard.rows * dimension:
        raise ValueError(
            f"{path.name} holds {len(table) - column.null_count} vectors, its manifest says "
            f"{shard.rows}"
        )
    return values.to_numpy(zero_copy_only=True).reshape(-1, dimension)


def read_passages(folder: Path, shard: ShardRecord) -> list[Passage]:
    """Every passage of a shard, in order; raises `ValueError` for a damaged file."""
    file = _passage_file(folder, shard)
    with _readable(shard.passages):
        passages = _as_passages(file.read(), shard.passages)
    return with_metadata(folder, shard, passages)


class PassageStore:
    """Passages by row number, over the shards of an index in order."""

    def __init__(self, folder: Path, shards: Sequence[ShardRecord]) -> None:
        """Raises `ValueError` for a file that is not what its record promises."""
        self._shards = shards
        self._files = [_passage_file(folder, shard) for shard in shards]
        self._starts = np.cumsum([0, *(shard.rows for shard in shards)])
        self._groups: dict[tuple[int, int], list[Passage]] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def ids(self) -> list[str]:
        """Every passage's id, by row; raises `ValueError` for a damaged file or one id twice."""
        ids: list[str] = self.id_column().to_pylist()
        if len(set(ids)) < len(ids):
            raise ValueError("an id stands in it twice")
        return ids

    def id_column(self) -> pa.ChunkedArray:
        """`ids` as Arrow keeps them, smaller than as many strings, and not compared."""
        chunks: list[pa.Array] = []
        for file, shard in zip(self._files, self._shards, strict=True):
            with _readable(shard.passages):
                column = file.read(columns=["id"]).column("id")
                if len(column) != shard.rows or column.null_count:
                    raise ValueError(f"{shard.passages} lacks ids")
                chunks += column.chunks
        return pa.chunked_array(chunks, pa.string())

    def __getitem__(self, row: int) -> Passage:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        group, place = divmod(row - int(self._starts[shard]), ROWS_PER_GROUP)
        return self._group(shard, group)[place]

    def __iter__(self) -> Iterator[Passage]:
        for number, file in enumerate(self._files):
            for group in range(file.num_row_groups):
                yield from self._group(number, group)

    def _group(self, shard: int, group: int) -> list[Passage]:
        if (shard, group) not in self._groups:
            # Hits of one query scatter; a bounded memory of groups serves the next queries too.
            if len(self._groups) >= _GROUPS_KEPT:
                self._groups.pop(next(iter(self._groups)))
            name = self._shards[shard].passages
            with _readable(name):
                table = self._files[shard].read_row_group(group)
                self._groups[shard, group] = _as_passages(table, name)
        return self._groups[shard, group]


_GROUPS_KEPT = 256


def _passage_file(folder: Path, shard: ShardRecord) -> pq.ParquetFile:
    path = file_of(folder, shard.passages)
    with _readable(path.name):
        file = pq.ParquetFile(path, memory_map=True)
        if not file.schema_arrow.equals(_PASSAGES):
            kinds = ", ".join(f"{field.name}: {field.type}" for field in file.schema_arrow)
            raise ValueError(f"{path.name} holds {kinds:.120}, wanted id, title and text")
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    # A row is found by its number alone.
    whole, rest = divmod(shard.rows, ROWS_PER_GROUP)
    if groups != [ROWS_PER_GROUP] * whole + [rest] * (rest > 0):
        raise ValueError(
            f"{path.name} holds {sum(groups)} passages in {len(groups)} groups, wanted "
            f"{shard.rows} in groups of {ROWS_PER_GROUP}"
        )
    return file


def _as_passages(table: pa.Table, name: str) -> list[Passage]:
    columns = [table.column(column) for column in _PASSAGES.names]
    if any(column.null_count for column in columns):
        raise ValueError(f"{name} has a passage without id, title or text")
    return [Passage(*row) for row in zip(*(x.to_pylist() for x in columns), strict=True)]
