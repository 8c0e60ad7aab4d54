"""Shards: the checkpoint unit of a build, and the passages and vectors read back from them.

Enters: passages and their vectors. Leaves: two files a shard, `vectors-00000.arrow` (Arrow IPC,
mapped when read, so vectors cost no memory until they are touched) and `passages-00000.parquet`
(small row groups, so one passage is read without most of its neighbours). What a file holds is
checked when it is first touched: an index may have thousands of them.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from index.disk.files import file_of, sha256_of, write_atomic
from index.disk.mapped import MOST_MAPPED, MappedFiles, mapped, readable
from index.manifest.plan import FLOAT32
from index.manifest.segments import ScoreShift, ShardRecord, shard_files
from index.records import Passage
from index.store.metadata import with_metadata, write_metadata
from index.store.precision import StoredVectors, as_table, of_table, schema_of, score_shift, stored

ROWS_PER_GROUP = 64
_PASSAGES = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.string())])
# Some of the last touched are kept: footers are large beside the few passages that are read.
_FILES_KEPT, _GROUPS_KEPT = 64, 256


def write_shard(
    folder: Path,
    number: int,
    passages: Sequence[Passage],
    vectors: np.ndarray,
    truncated: int,
    precision: str = FLOAT32,
) -> ShardRecord:
    """Write shard `number` of `passages` and their float32 `vectors` [n, d], stored as said."""
    kept = stored(vectors, precision)
    return write_stored(folder, number, passages, kept, truncated, score_shift(vectors, kept))


def write_stored(
    folder: Path,
    number: int,
    passages: Sequence[Passage],
    vectors: StoredVectors,
    truncated: int,
    shift: ScoreShift,
) -> ShardRecord:
    """Write a shard of vectors whose storing has moved scores by `shift` before."""
    vectors_file, passages_file, _ = shard_files(number)
    columns = zip(*(passage[:3] for passage in passages), strict=True)
    table = pa.table(
        {name: pa.array(column) for name, column in zip(_PASSAGES.names, columns, strict=True)},
        schema=_PASSAGES,
    )
    write_atomic(folder / passages_file, lambda file: _write_passages(file, table))
    write_atomic(folder / vectors_file, lambda file: _write_vectors(file, as_table(vectors)))
    return ShardRecord(
        vectors=vectors_file,
        passages=passages_file,
        rows=len(passages),
        truncated=truncated,
        vectors_sha256=sha256_of(folder / vectors_file),
        passages_sha256=sha256_of(folder / passages_file),
        rows_per_group=ROWS_PER_GROUP,
        score_shift_max=shift.most,
        score_shift_mean=shift.mean,
        metadata_sha256=write_metadata(folder, number, passages),
    )


def _write_passages(file: BinaryIO, table: pa.Table) -> None:
    # Hardly a text comes twice: a dictionary, and bounds of each group, would only take up place.
    pq.write_table(
        table,
        file,
        row_group_size=ROWS_PER_GROUP,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )


def _write_vectors(file: BinaryIO, table: pa.Table) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


class VectorTable:
    """The vectors of some shards, by row number, mapped from the disk and read-only.

    Given are float32 vectors, whatever is stored.
    """

    def __init__(
        self,
        folder: Path,
        shards: Sequence[ShardRecord],
        dimension: int,
        precision: str = FLOAT32,
    ) -> None:
        """Raises `ValueError` for a missing file; what is in one is checked when it is touched."""
        self.dimension = dimension
        self._precision = precision
        self._shards = shards
        self._files = MappedFiles(folder, [shard.vectors for shard in shards])
        self._starts = np.cumsum([0, *(shard.rows for shard in shards)])
        # Nearly always all shards but the last are of one size: a division tells a row's shard.
        sizes = {shard.rows for shard in shards[:-1]}
        self._size = sizes.pop() if len(sizes) == 1 else 0
        self._touched: dict[int, StoredVectors] = {}
        # Where the vectors of a shard begin in memory, 0 before it is touched, and what is there:
        # nothing that was given an address may go. None where they are not stored as given.
        readable_there = precision == FLOAT32 and len(shards) <= MOST_MAPPED
        self._addresses = np.zeros(len(shards), np.int64) if readable_there else None
        self._addressed: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def parts(self) -> Sequence[np.ndarray]:
        """All of them in order, float32 [n, d] a shard, each read when it is asked for."""
        return _Parts(self)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The vectors [n, d] of those rows; only they are read."""
        vectors = np.empty((len(rows), self.dimension), np.float32)
        for shard, mine, places in by_part(self._starts, rows):
            part = self.stored_part(shard)
            vectors[mine] = part.codes[places]
            if part.scales is not None:
                vectors[mine] *= part.scales[places, None]
        return vectors

    def addresses(self, rows: np.ndarray) -> np.ndarray | None:
        """Where each row's float32 vector begins in memory, int64 [n], as long as this lives.

        None where vectors can't be read there: other types are stored, or too many shards to keep
        mapped. Raises `IndexError` for a row that is none.
        """
        if self._addresses is None:
            return None
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows from {rows.min()} to {rows.max()} of {len(self)}")
        if self._size:
            shards = np.minimum(rows // self._size, len(self._shards) - 1)
        else:
            shards = self._starts.searchsorted(rows, side="right") - 1
        for shard in set(shards[self._addresses[shards] == 0].tolist()):
            there = self._addressed.setdefault(shard, self.stored_part(shard).codes)
            self._addresses[shard] = there.ctypes.data
        inside = rows - self._starts[shards]
        return self._addresses[shards] + inside * (np.dtype(np.float32).itemsize * self.dimension)

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self._shards)

    def stored_part(self, number: int) -> StoredVectors:
        """The vectors of a shard as they are stored.

        Raises `ValueError` for a file that is not what its record promises.
        """
        if number not in self._touched:
            _keep(self._touched, number, self._read(number), MOST_MAPPED)
        return self._touched[number]

    def _read(self, number: int) -> StoredVectors:
        shard, wanted = self._shards[number], schema_of(self._precision, self.dimension)
        name, buffer = shard.vectors, self._files[number]
        with readable(name):
            table = pa.ipc.open_file(buffer).read_all()
            if not table.schema.equals(wanted):
                raise ValueError(
                    f"{name} holds {_kinds(table.schema):.120}, wanted {_kinds(wanted)}"
                )
            table.validate()
        nulls = max(column.null_count for column in table.columns)
        if len(table) != shard.rows or nulls:
            raise ValueError(
                f"{name} holds {len(table) - nulls} vectors, its manifest says {shard.rows}"
            )
        return of_table(table, self.dimension)


class _Parts(Sequence[np.ndarray]):
    def __init__(self, table: VectorTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.shards

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return self._table.stored_part(range(len(self))[number]).floats()


def _keep(kept: dict, key: object, value: object, most: int) -> None:
    """Put one more into a memory that holds the `most` last ones."""
    if len(kept) >= most:
        kept.pop(next(iter(kept)))
    kept[key] = value


def _kinds(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def by_part(starts: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Rows, int64 [n], that are numbered through parts which begin at `starts`, part by part.

    Gives each part that has any, the places of those in `rows`, and their numbers inside the part.
    """
    if not len(rows):
        return
    owners = starts.searchsorted(rows, side="right") - 1
    order = owners.argsort(kind="stable")
    owners = owners[order]
    inside = rows[order] - starts[owners]
    ends = np.flatnonzero(owners[1:] != owners[:-1]) + 1
    for start, end in pairwise([0, *ends.tolist(), len(rows)]):
        yield int(owners[start]), order[start:end], inside[start:end]


def read_passages(folder: Path, shard: ShardRecord) -> list[Passage]:
    """Every passage of a shard, in order; raises `ValueError` for a damaged file."""
    file_of(folder, shard.passages)
    file = _passage_file(mapped(folder, shard.passages), shard)
    with readable(shard.passages):
        table = file.read()
    return with_metadata(folder, shard, list(_passages(_columns(table, shard.passages))))


class PassageStore:
    """Passages by row number, over the shards of an index in order."""

    def __init__(self, folder: Path, shards: Sequence[ShardRecord]) -> None:
        """Raises `ValueError` for a missing file; what is in one is checked when it is touched."""
        self._shards = shards
        self._mapped = MappedFiles(folder, [shard.passages for shard in shards])
        self._starts = np.cumsum([0, *(shard.rows for shard in shards)])
        self._files: dict[int, pq.ParquetFile] = {}
        self._groups: dict[tuple[int, int], list[pa.Array]] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def id_chunks(self) -> Iterator[pa.Array]:
        """Every passage's id, in the order of rows, as Arrow keeps them: a shard or less a chunk.

        Raises `ValueError` for a damaged file.
        """
        for number, shard in enumerate(self._shards):
            file = self._file(number)
            with readable(shard.passages):
                column = file.read(columns=["id"]).column("id")
            if len(column) != shard.rows or column.null_count:
                raise ValueError(f"{shard.passages} lacks ids")
            yield from column.chunks

    def __getitem__(self, row: int) -> Passage:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        group, place = divmod(row - int(self._starts[shard]), self._shards[shard].rows_per_group)
        return Passage(*(column[place].as_py() for column in self._group(shard, group)))

    def __iter__(self) -> Iterator[Passage]:
        for number, shard in enumerate(self._shards):
            for group in range(-(-shard.rows // shard.rows_per_group)):
                yield from _passages(self._group(number, group))

    def _group(self, shard: int, group: int) -> list[pa.Array]:
        if (shard, group) not in self._groups:
            file = self._file(shard)
            name = self._shards[shard].passages
            with readable(name):
                table = file.read_row_group(group, use_threads=False)
            # Hits of one query scatter; what is kept serves the next queries too.
            _keep(self._groups, (shard, group), _columns(table, name), _GROUPS_KEPT)
        return self._groups[shard, group]

    def _file(self, number: int) -> pq.ParquetFile:
        if number not in self._files:
            file = _passage_file(self._mapped[number], self._shards[number])
            _keep(self._files, number, file, _FILES_KEPT)
        return self._files[number]


def _passage_file(content: pa.Buffer, shard: ShardRecord) -> pq.ParquetFile:
    with readable(shard.passages):
        # Pages have no checksum where an earlier version wrote them.
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        if not file.schema_arrow.equals(_PASSAGES):
            raise ValueError(
                f"{shard.passages} holds {_kinds(file.schema_arrow):.120}, wanted id, title and "
                f"text"
            )
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    # A row is found by its number alone.
    whole, rest = divmod(shard.rows, shard.rows_per_group)
    if groups != [shard.rows_per_group] * whole + [rest] * (rest > 0):
        raise ValueError(
            f"{shard.passages} holds {sum(groups)} passages in {len(groups)} groups, wanted "
            f"{shard.rows} in groups of {shard.rows_per_group}"
        )
    return file


def _columns(table: pa.Table, name: str) -> list[pa.Array]:
    """The columns of a passage's fields; none of them lacks a value."""
    columns = [table.column(column).combine_chunks() for column in _PASSAGES.names]
    if any(column.null_count for column in columns):
        raise ValueError(f"{name} has a passage without id, title or text")
    return columns


def _passages(columns: Sequence[pa.Array]) -> Iterator[Passage]:
    return map(Passage, *(column.to_pylist() for column in columns))
