"""The ids of a segment on the disk: from a row to its id, and from an id to its row.

Enters: the ids of all rows, in order. Leaves: two Arrow files, mapped when read. `ids.arrow` holds
the ids; `id-rows.arrow` the 64-bit hash of each id and its row, ordered by hash, so that an id is
found by halving. Of ids with one hash the strings decide. The id at a row is the truth: what leads
elsewhere is told as damage.

    IdTable.open(Path("my-index/data-0001"), 250_000).ids_of(np.array([7]))
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from index.disk.files import file_of, sha256_of, write_atomic
from index.disk.mapped import mapped, readable
from index.manifest.segments import ID_ROWS_FILE, IDS_FILE, IdsRecord

_IDS = pa.schema([("id", pa.large_string())])
_ROWS = pa.schema([("hash", pa.uint64()), ("row", pa.int64())])
_AT_ONCE = 65_536
TWICE = "an id stands in it twice"


def hashes_of(ids: Iterable[str]) -> np.ndarray:
    """The hash of each id, uint64 [n]: the same ones on every machine."""
    digests = [blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=8).digest() for id_ in ids]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


class IdTable:
    """The ids of a segment's rows. Nothing of it is copied out of mapped files."""

    def __init__(
        self, column: pa.LargeStringArray, hashed: tuple[np.ndarray, np.ndarray] | None = None
    ) -> None:
        """Without `hashed` (hashes, ordered, and their rows) they are made when an id is sought."""
        _, offsets, data = column.buffers()
        self._offsets = np.frombuffer(offsets, np.int64, len(column) + 1)
        self._data = memoryview(data or b"")
        self._on_disk = hashed
        # Rows whose ids led back; memory that nothing was written to is not taken yet.
        self._checked = np.zeros(len(column), bool)

    @classmethod
    def open(cls, data: Path, rows: int) -> "IdTable":
        """The table in the folder `data`; raises `ValueError` unless it is one of `rows` ids."""
        (column,) = _mapped_columns(data, IDS_FILE, _IDS, rows)
        hashed = _mapped_columns(data, ID_ROWS_FILE, _ROWS, rows)
        hashes, places = (each.to_numpy(zero_copy_only=True) for each in hashed)
        return cls(column, (hashes, places))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[str]:
        for part in self._parts():
            yield from self._texts(part)

    def ids_of(self, rows: np.ndarray) -> list[str]:
        """The ids of `rows`, int64 [n]; raises `ValueError` for one that does not lead back.

        A row is looked at the first time that it is asked for.
        """
        ids = self._texts(rows)
        if self._on_disk is not None and len(new := np.flatnonzero(~self._checked[rows])):
            hashes = hashes_of(ids[number] for number in new.tolist())
            if not self._lead_back(hashes, rows[new]):
                raise ValueError(f"{IDS_FILE} and {ID_ROWS_FILE} contradict each other")
            self._checked[rows[new]] = True
        return ids

    def _lead_back(self, hashes: np.ndarray, rows: np.ndarray) -> bool:
        """Whether each of `rows` is among those of its id's hash."""
        ordered, of = self.by_hash
        first = np.searchsorted(ordered, hashes, "left").clip(max=len(self) - 1)
        lost = np.flatnonzero((ordered[first] != hashes) | (of[first] != rows))
        if not len(lost):
            return True
        # Another id's hash may be the same, and stand before it.
        which, found = self._candidates(hashes[lost])
        led_back = np.zeros(len(lost), bool)
        led_back[which[found == rows[lost][which]]] = True
        return bool(led_back.all())

    def rows_of(self, ids: Sequence[str], hashes: np.ndarray, live: np.ndarray) -> np.ndarray:
        """The row, int64 [n], of each id, whose `hashes` those are; -1 where none is `live`.

        Raises `ValueError` for an id that is live twice.
        """
        which, found = self._candidates(hashes)
        kept = live[found]
        which, found = which[kept], found[kept]
        same = [ids[n] == text for n, text in zip(which.tolist(), self._texts(found), strict=True)]
        which, found = which[same], found[same]
        if len(np.unique(which)) < len(which):
            raise twice(ids[int(np.bincount(which).argmax())])
        rows = np.full(len(ids), -1)
        rows[which] = found
        return rows

    def check(self) -> None:
        """Raise `ValueError` unless the hashes and rows are those of the ids."""
        if self._on_disk is not None:
            pairs = zip(self._on_disk, self._hashed(), strict=True)
            if not all(np.array_equal(there, made) for there, made in pairs):
                raise ValueError(f"{ID_ROWS_FILE} is not that of {IDS_FILE}")

    @cached_property
    def by_hash(self) -> tuple[np.ndarray, np.ndarray]:
        """The hashes of all ids, uint64 [n], in order, and the row of each, int64 [n]."""
        return self._hashed() if self._on_disk is None else self._on_disk

    def _hashed(self) -> tuple[np.ndarray, np.ndarray]:
        hashes = np.empty(len(self), np.uint64)
        for part in self._parts():
            hashes[part] = hashes_of(self._texts(part))
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def _parts(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _AT_ONCE):
            yield np.arange(start, min(start + _AT_ONCE, len(self)))

    def _candidates(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every row with one of `hashes`: of which of them, int64 [n], and the row, int64 [n]."""
        ordered, rows = self.by_hash
        first = np.searchsorted(ordered, hashes, "left")
        # Of hashes that are damaged, and not in order, none may be there a negative time.
        counts = np.maximum(np.searchsorted(ordered, hashes, "right") - first, 0)
        which = np.repeat(np.arange(len(hashes)), counts)
        inside = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        found = rows[first[which] + inside]
        if len(found) and not 0 <= found.min() <= found.max() < len(self):
            raise ValueError(f"{ID_ROWS_FILE} is damaged: it has a row {found.max()}")
        return which, found

    def _texts(self, rows: np.ndarray) -> list[str]:
        """The ids of `rows` as they stand there; a damaged length leads nowhere outside."""
        starts, ends = self._offsets[rows], self._offsets[rows + 1]
        if not ((starts >= 0) & (starts <= ends) & (ends <= len(self._data))).all():
            raise ValueError(f"{IDS_FILE} is damaged: an id has no end")
        try:
            pairs = zip(starts.tolist(), ends.tolist(), strict=True)
            return [self._data[start:end].tobytes().decode() for start, end in pairs]
        except UnicodeDecodeError:
            raise ValueError(f"{IDS_FILE} is damaged: an id is no UTF-8") from None


def find_live(
    tables: Sequence[IdTable], live: Sequence[np.ndarray], ids: Sequence[str]
) -> np.ndarray:
    """The row, int64 [n], of each id, numbered through all `tables`; -1 where none is live.

    `live` says of each table which rows are, bool [n]. Raises `ValueError` for an id live twice.
    """
    rows, start, hashes = np.full(len(ids), -1), 0, hashes_of(ids)
    for table, alive in zip(tables, live, strict=True):
        found = table.rows_of(ids, hashes, alive)
        here = found >= 0
        if (rows[here] >= 0).any():
            raise twice(ids[int(np.flatnonzero(here & (rows >= 0))[0])])
        rows[here] = start + found[here]
        start += len(table)
    return rows


def check_unique(tables: Sequence[IdTable], live: Sequence[np.ndarray]) -> None:
    """Raise `ValueError` when an id is live twice in `tables`, as `find_live` takes them."""
    hashes = [
        table.by_hash[0][alive[table.by_hash[1]]] for table, alive in zip(tables, live, strict=True)
    ]
    ordered = np.sort(np.concatenate([np.empty(0, np.uint64), *hashes]))
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    ids: list[str] = []
    for table, alive in zip(tables, live, strict=True):
        _, found = table._candidates(shared)
        ids += table._texts(found[alive[found]])
    check_once(ids)


def check_once(ids: Sequence[str]) -> None:
    """Raise `ValueError` naming an id that stands in `ids` twice."""
    if len(set(ids)) < len(ids):
        (id_, _), *_ = Counter(ids).most_common(1)
        raise twice(id_)


def twice(id_: str) -> ValueError:
    """What is wrong where two live rows have one id."""
    return ValueError(f"{TWICE}: {id_!r:.80}")


def write_ids(place: Path, chunks: Iterable[pa.Array]) -> IdsRecord:
    """Write the table of all ids of a segment, in `chunks`, into its folder `place`.

    Raises `ValueError` for an id that stands there twice.
    """
    column = large_column(chunks)
    table = IdTable(column)
    check_unique([table], [np.broadcast_to(np.True_, len(table))])
    _write(place / IDS_FILE, pa.table([column], schema=_IDS))
    _write(place / ID_ROWS_FILE, pa.table(list(map(pa.array, table.by_hash)), schema=_ROWS))
    return IdsRecord(sha256_of(place / IDS_FILE), sha256_of(place / ID_ROWS_FILE))


def large_column(chunks: Iterable[pa.Array]) -> pa.LargeStringArray:
    """Arrays of strings in one, whose lengths together no 32 bits bound."""
    wide = [chunk.cast(pa.large_string()) for chunk in chunks]
    return pa.concat_arrays([pa.array([], pa.large_string()), *wide])


def _write(path: Path, table: pa.Table) -> None:
    def write(file: BinaryIO) -> None:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    write_atomic(path, write)


def _mapped_columns(data: Path, name: str, schema: pa.Schema, rows: int) -> list[pa.Array]:
    file_of(data, name)
    buffer = mapped(data, name)
    with readable(name):
        reader = pa.ipc.open_file(buffer)
        if not reader.schema.equals(schema) or reader.num_record_batches != 1:
            raise ValueError(f"{name} does not hold {', '.join(schema.names)} of all passages")
        batch = reader.get_batch(0)
        batch.validate()
    nulls = sum(column.null_count for column in batch.columns)
    if batch.num_rows != rows or nulls:
        raise ValueError(f"{name} holds {batch.num_rows - nulls} ids, its manifest says {rows}")
    return list(batch.columns)
