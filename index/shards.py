"""Shards: the checkpoint unit of a build, and the passages and vectors read back from them.

Enters: passages and their vectors. Leaves: two files a shard, `vectors-00000.arrow` (Arrow IPC,
memory-mapped when read, so vectors cost no memory until they are touched) and
`passages-00000.parquet` (small row groups, so one passage is read without its neighbours).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from index.files import sha256_of, write_atomic
from index.manifest import ShardRecord
from index.records import Passage

ROWS_PER_GROUP = 256
_PASSAGES = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.string())])


def write_shard(
    folder: Path, number: int, passages: Sequence[Passage], vectors: np.ndarray, truncated: int
) -> ShardRecord:
    """Write shard `number` of `passages` and their float32 `vectors` [n, d]."""
    record = ShardRecord(
        f"vectors-{number:05d}.arrow", f"passages-{number:05d}.parquet", 0, 0, "", ""
    )
    columns = zip(*passages, strict=True)
    table = pa.table(
        {name: pa.array(column) for name, column in zip(_PASSAGES.names, columns, strict=True)},
        schema=_PASSAGES,
    )
    write_atomic(
        folder / record.passages,
        lambda path: pq.write_table(table, path, row_group_size=ROWS_PER_GROUP, compression="zstd"),
    )
    write_atomic(folder / record.vectors, lambda path: _write_vectors(path, vectors))
    return ShardRecord(
        vectors=record.vectors,
        passages=record.passages,
        rows=len(passages),
        truncated=truncated,
        vectors_sha256=sha256_of(folder / record.vectors),
        passages_sha256=sha256_of(folder / record.passages),
    )


def _write_vectors(path: Path, vectors: np.ndarray) -> None:
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    table = pa.table({"vector": column})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


class VectorTable:
    """The float32 vectors of some shards, by row number, mapped from the disk and read-only."""

    def __init__(self, folder: Path, shards: Sequence[ShardRecord]) -> None:
        self.parts = [_mapped_vectors(folder / shard.vectors) for shard in shards]
        self._starts = np.cumsum([0, *(len(part) for part in self.parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The vectors [n, d] of those rows; only they are read."""
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        dimension = self.parts[0].shape[1]
        vectors = np.empty((len(rows), dimension), np.float32)
        for shard in np.unique(shards):
            mine = shards == shard
            vectors[mine] = self.parts[shard][rows[mine] - self._starts[shard]]
        return vectors


def _mapped_vectors(path: Path) -> np.ndarray:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    column = table.column("vector").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=True).reshape(-1, column.type.list_size)


def read_passages(path: Path) -> list[Passage]:
    """Every passage of a shard, in order."""
    return _as_passages(pq.read_table(path))


class PassageStore:
    """Passages by row number, over the shards of an index in order."""

    def __init__(self, folder: Path, shards: Sequence[ShardRecord]) -> None:
        self._files = [pq.ParquetFile(folder / shard.passages, memory_map=True) for shard in shards]
        self._starts = np.cumsum([0, *(shard.rows for shard in shards)])
        self._groups: dict[tuple[int, int], list[Passage]] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def ids(self) -> list[str]:
        """Every passage's id, by row."""
        return [
            str(value)
            for file in self._files
            for value in file.read(columns=["id"]).column("id").to_pylist()
        ]

    def __getitem__(self, row: int) -> Passage:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        group, place = divmod(row - int(self._starts[shard]), ROWS_PER_GROUP)
        return self._group(shard, group)[place]

    def __iter__(self) -> Iterator[Passage]:
        for file in self._files:
            for group in range(file.num_row_groups):
                yield from _as_passages(file.read_row_group(group))

    def _group(self, shard: int, group: int) -> list[Passage]:
        if (shard, group) not in self._groups:
            # Hits of one query scatter; a bounded memory of groups serves the next queries too.
            if len(self._groups) >= _GROUPS_KEPT:
                self._groups.pop(next(iter(self._groups)))
            self._groups[shard, group] = _as_passages(self._files[shard].read_row_group(group))
        return self._groups[shard, group]


_GROUPS_KEPT = 256


def _as_passages(table: pa.Table) -> list[Passage]:
    columns = (table.column(name).to_pylist() for name in _PASSAGES.names)
    return [Passage(*row) for row in zip(*columns, strict=True)]
