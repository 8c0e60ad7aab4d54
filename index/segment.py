"""A segment of an index: the passages that were added together, and which of them are deleted.

Enters: shards on the disk, or the record of a segment. Leaves: the FAISS file over them, or the
segment opened for searching. Its files never change; what is deleted is one file more, a bit a row.

    Segment(Path("my-index"), manifest.segments[0], dimension=384).search(vectors, k=10)
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from index.dense.build import build_faiss
from index.dense.file import read_faiss, write_faiss
from index.dense.kinds import AUTO, choose_factory, whole_vectors
from index.dense.recall import recall_at_10
from index.dense.search import search_faiss
from index.disk.files import check_digest, file_of, sha256_of, write_atomic
from index.manifest.segments import (
    FAISS_FILE,
    IDS_FILE,
    MIXED_VECTORS,
    DeletionRecord,
    SegmentRecord,
    ShardRecord,
    deletions_file,
)
from index.manifest.words import OFF
from index.records import Passage
from index.store.ids import IdTable, large_column, write_ids
from index.store.shards import PassageStore, VectorTable, by_part
from index.words.files import write_lexical

_RECALL_QUERIES = 100


class Making(NamedTuple):
    """What is made of a segment's shards: all that its two legs follow from besides."""

    dimension: int
    precision: str
    factory: str = AUTO
    lexical: str = OFF
    deterministic: bool = False


def finish_segment(
    place: Path, data: str, shards: Sequence[ShardRecord], making: Making
) -> SegmentRecord:
    """Write the ids and both legs of the shards in the folder `place`, to be called `data`.

    The legs are the FAISS file, of the vectors as they are stored, and the words by an analyser.
    Raises `ValueError` for a factory string that FAISS can't build over them, and for an id that
    comes twice.
    """
    passages = sum(shard.rows for shard in shards)
    factory = choose_factory(passages, making.dimension, making.factory)
    # Before the FAISS index takes up memory.
    ids = write_ids(place, PassageStore(place, shards).id_chunks())
    vectors = VectorTable(place, shards, making.dimension, making.precision)
    built = build_faiss(
        factory, making.dimension, vectors, deterministic=making.deterministic, scratch=place
    )
    write_atomic(place / FAISS_FILE, lambda file: write_faiss(built, file))

    def search(queries: np.ndarray, k: int) -> list[np.ndarray]:
        return [scores for _, scores in search_faiss(built, factory, vectors, queries, k)]

    recall, queries = recall_at_10(search, vectors, _RECALL_QUERIES)
    return SegmentRecord(
        data=data,
        faiss_factory=factory,
        faiss_sha256=sha256_of(place / FAISS_FILE),
        passages=passages,
        recall_at_10=recall,
        recall_queries=queries,
        recall_asked=MIXED_VECTORS,
        shards=tuple(shards),
        ids=ids,
        vectors=making.precision,
        words=write_lexical(place, shards, making.lexical),
    )


def write_deletions(data: Path, number: int, live: np.ndarray) -> DeletionRecord:
    """Write which rows of the segment in `data` are deleted: all where `live`, bool [n], is False.

    Bit n % 8 of byte n // 8, counted from the lowest, is row n.
    """
    path = data / deletions_file(number)
    bits = np.packbits(~live, bitorder="little").tobytes()
    write_atomic(path, lambda file: file.write(bits))
    return DeletionRecord(number, len(live) - int(np.count_nonzero(live)), sha256_of(path))


def read_live(data: Path, segment: SegmentRecord) -> np.ndarray:
    """Which rows of a segment are live, bool [n], read-only.

    Raises `ValueError` when the file of deleted rows is not the one that the record promises: so
    small a file is digested whenever it is read, for each of its bits decides about a hit.
    """
    if segment.deleted is None:
        return np.broadcast_to(np.True_, segment.passages)  # a byte, not one a row
    path = file_of(data, segment.deleted.file)
    if path.stat().st_size != (segment.passages + 7) // 8:
        raise ValueError(f"{path.name} is not one bit for each of {segment.passages} passages")
    check_digest(data, path.name, segment.deleted.sha256)
    bits = np.unpackbits(np.fromfile(path, np.uint8), bitorder="little").astype(bool)
    live, rest = ~bits[: segment.passages], bits[segment.passages :]
    if rest.any() or np.count_nonzero(live) != segment.live:
        raise ValueError(f"{path.name} does not mark {segment.deleted.rows} passages")
    return live


def faults_of(folder: Path, segment: SegmentRecord) -> Iterator[str]:
    """What is wrong with the files of a segment of the index in `folder`, by their digests."""
    for name, digest in segment.digests.items():
        try:
            with told_of(segment):
                check_digest(folder / segment.data, name, digest)
        except ValueError as error:
            yield str(error)


@contextlib.contextmanager
def told_of(segment: SegmentRecord) -> Iterator[None]:
    """Let a `ValueError` about a file of a segment name the folder that it lies in."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{segment.data}: {error}") from None


class Segment:
    """An open segment. Rows are numbered as they were written, deleted ones among them."""

    def __init__(self, folder: Path, record: SegmentRecord, dimension: int) -> None:
        """Raises `ValueError` for a file that is not what the record promises."""
        self.record = record
        data = folder / record.data
        with told_of(record):
            self.live = read_live(data, record)
            self.vectors = VectorTable(data, record.shards, dimension, record.vectors)
            self._faiss = read_faiss(data, FAISS_FILE, dimension, record.passages)
            whole = whole_vectors(self._faiss)
            # The same numbers, where a search has just read them.
            self._scored = self.vectors if whole is None else whole
            self.store = PassageStore(data, record.shards)
            self._on_disk = IdTable.open(data, record.passages) if record.ids else None

    @cached_property
    def ids(self) -> IdTable:
        """The id of every row, live or not."""
        with told_of(self.record):
            return self._on_disk or IdTable(large_column(self.store.id_chunks()))

    def ids_of(self, rows: np.ndarray) -> list[str]:
        """The ids of `rows`, int64 [n]; raises `ValueError` where their files are damaged."""
        with told_of(self.record):
            return self.ids.ids_of(rows)

    def passage(self, row: int, id_: str) -> Passage:
        """The passage of a row; raises `ValueError` when its id is not `id_`, as `ids` says."""
        with told_of(self.record):
            passage = self.store[row]
            if passage.id != id_:
                raise ValueError(f"the passages and {IDS_FILE} have other ids in row {row}")
            return passage

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The live rows, and their scores, of the best `k` of each query and what ties with it.

        `allowed`, bool [n], are the live rows to search; None: all that are live.
        """
        live = allowed if allowed is not None else self.live if self.record.deleted else None
        with told_of(self.record):
            return search_faiss(
                self._faiss, self.record.faiss_factory, self._scored, queries, k, live
            )


class LiveVectors:
    """The vectors of live passages alone, over some segments in order, numbered without gaps."""

    def __init__(self, segments: Sequence[Segment], dimension: int) -> None:
        self._segments = segments
        self._dimension = dimension
        self._rows = [
            np.flatnonzero(segment.live) if segment.record.deleted else None for segment in segments
        ]
        self._starts = np.cumsum([0, *(segment.record.live for segment in segments)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The vectors [n, d] of those rows; only they are read."""
        vectors = np.empty((len(rows), self._dimension), np.float32)
        for owner, mine, places in by_part(self._starts, rows):
            live = self._rows[owner]
            vectors[mine] = self._segments[owner].vectors[places if live is None else live[places]]
        return vectors

    @property
    def parts(self) -> Iterator[np.ndarray]:
        """All of them in order, a shard at a time."""
        for segment in self._segments:
            start = 0
            for part in segment.vectors.parts:
                live = segment.live[start : start + len(part)]
                start += len(part)
                yield part if live.all() else part[live]
