"""Change an index without building it again: a segment more, rows deleted, one manifest.

Enters: the folder of an index, passages with their vectors, ids. Leaves: the next state of the
index. Nothing of the old state is touched before the new manifest takes its place by one rename; a
killed change is dropped by the next writer (`index/writing/journal.py`).

    with only_writer(folder), IndexChange(folder) as change:
        change.delete(change.find(["p7"]))
        change.commit()
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import compress
from pathlib import Path

import numpy as np

from index.dense.kinds import AUTO
from index.disk.files import check_digest, sync_folder
from index.manifest.manifest import Manifest, counted
from index.manifest.plan import data_number
from index.manifest.segments import ScoreShift, SegmentRecord, ShardRecord
from index.records import Passage
from index.segment import Making, finish_segment, read_live, told_of, write_deletions
from index.store.ids import IdTable, find_live, large_column
from index.store.metadata import columns_of
from index.store.pieces import Piece, read_piece, regrouped
from index.store.precision import StoredVectors, score_shift, stored
from index.store.shards import PassageStore, by_part, write_stored
from index.writing.folder import next_data, tidy, unfinished_in
from index.writing.journal import Journal, settle, write_journal


class IndexChange:
    """One change of the index in `folder`, whose `manifest` it is; the caller holds `only_writer`.

    What is not committed when the block ends is as if it had never begun. Rows are numbered through
    all segments, deleted ones among them.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `ValueError` for no index, and for one that an unfinished build is to replace."""
        self.folder = folder
        self.manifest = Manifest.read(folder)
        if unfinished_in(folder, self.manifest):
            raise ValueError(
                f"{folder} holds an unfinished build; go on with it (build --resume) or start it "
                f"again (build --overwrite) first"
            )
        tidy(folder, self.manifest)
        settle(folder, self.manifest)
        self._data = ""
        self._shards: list[ShardRecord] = []
        self._touched: set[int] = set()

    def __enter__(self) -> "IndexChange":
        return self

    def __exit__(self, *raised: object) -> None:
        # What is in the folder counts: an interrupt may have come right after the rename.
        settle(self.folder, Manifest.read(self.folder))

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """The row, int64 [n], of each id; -1 for one that no live passage of the manifest has.

        Raises `ValueError` where the ids of the index are damaged, or one is live twice.
        """
        try:
            return find_live(self._ids, self._live_before, ids)
        except ValueError as error:
            raise self._damaged(error) from None

    def live_ids(self) -> Iterator[tuple[int, str]]:
        """The row and the id of every live passage of the manifest; reads all of its ids.

        Raises `ValueError` where they are damaged.
        """
        try:
            for start, table, live in zip(
                self._starts[:-1].tolist(), self._ids, self._live_before, strict=True
            ):
                yield from compress(enumerate(table, start), live.tolist())
        except ValueError as error:
            raise self._damaged(error) from None

    def ids_of(self, rows: np.ndarray) -> list[str]:
        """The ids of `rows`, int64 [n] ascending; raises as `live_ids`."""
        try:
            parts = by_part(self._starts, rows)
            return [id_ for owner, _, places in parts for id_ in self._ids[owner].ids_of(places)]
        except ValueError as error:
            raise self._damaged(error) from None

    def delete(self, rows: np.ndarray) -> None:
        """Mark rows as deleted, from the commit on."""
        for owner, _, places in by_part(self._starts, rows):
            self._live[owner][places] = False
            self._touched.add(owner)

    def add_shard(self, passages: Sequence[Passage], vectors: np.ndarray, truncated: int) -> None:
        """Write the next shard of the new segment; the caller sees to it that no id is live."""
        kept = stored(vectors, self._precision)
        self._add(passages, kept, truncated, score_shift(vectors, kept))

    def _add(
        self, passages: Sequence[Passage], kept: StoredVectors, truncated: int, shift: ScoreShift
    ) -> None:
        place = self.folder / self._begin()
        if not self._shards:
            place.mkdir()
            sync_folder(self.folder)
        number = len(self._shards)
        self._shards.append(write_stored(place, number, passages, kept, truncated, shift))

    def move_all(self, shard_size: int) -> None:
        """Copy every live passage into the new segment, and delete it where it was.

        Vectors are copied as they are stored. Raises `ValueError` for a shard that has changed
        since it was written: a copy would hide it.
        """
        shift = self.manifest.score_shift
        for passages, vectors, truncated in regrouped(self._live_pieces(), shard_size):
            self._add(passages, vectors, truncated, shift)
        self.delete(np.arange(self._starts[-1]))

    def commit(
        self,
        *,
        factory: str = AUTO,
        skipped: int = 0,
        created_by: Mapping[str, str] | None = None,
        lexical: str | None = None,
        deterministic: bool = False,
    ) -> Manifest:
        """Finish the new segment, write what is deleted, and make both the index by one rename.

        A segment of which nothing is live is left out. `created_by` None keeps that of the build,
        and `lexical` None the analyser; another one needs every passage to have moved.
        `deterministic` as for `build_faiss`.
        Raises `ValueError` for a factory string that FAISS can't build over the new segment.
        """
        data = self._begin()
        columns = columns_of(self.folder / data, self._shards, self.manifest.columns)
        lexical = self.manifest.lexical if lexical is None else lexical
        segments = []
        for number, segment in enumerate(self.manifest.segments):
            if number not in self._touched:
                segments.append(segment)
            elif (live := self._live[number]).any():
                place = self.folder / segment.data
                deleted = write_deletions(place, segment.next_deletions, live)
                segments.append(replace(segment, deleted=deleted))
        if self._shards:
            dimension = self.manifest.encoder.dimension
            making = Making(dimension, self._precision, factory, lexical, deterministic)
            segments.append(finish_segment(self.folder / data, data, self._shards, making))
        manifest = replace(
            self.manifest,
            segments=tuple(segments),
            last_data=data_number(data) if self._shards else self.manifest.last_data,
            skipped=self.manifest.skipped + skipped,
            created_by=dict(created_by or self.manifest.created_by),
            changes=self.manifest.changes + 1,
            columns=columns,
            lexical=lexical,
            **counted(segments),
        )
        manifest.write(self.folder)
        self.manifest = manifest
        return manifest

    def _begin(self) -> str:
        """Write the journal, the first time; the name of the new segment's folder."""
        if not self._data:
            self._data = next_data(self.folder, self.manifest)
            write_journal(self.folder, Journal(self._data, self.manifest))
        return self._data

    @property
    def _precision(self) -> str:
        return self.manifest.plan.precision

    @cached_property
    def _live(self) -> list[np.ndarray]:
        """What is live of each segment now, bool [n] each."""
        return [live.copy() for live in self._live_before]

    @cached_property
    def _live_before(self) -> list[np.ndarray]:
        masks = []
        for segment in self.manifest.segments:
            with self._told_of(segment):
                masks.append(read_live(self.folder / segment.data, segment))
        return masks

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(segment.passages for segment in self.manifest.segments)])

    @cached_property
    def _ids(self) -> list[IdTable]:
        """The ids of each segment; digested, for an id that was not found would be added twice."""
        tables = []
        for segment in self.manifest.segments:
            data = self.folder / segment.data
            with self._told_of(segment):
                if segment.ids:
                    for name, digest in segment.ids.digests.items():
                        check_digest(data, name, digest)
                    tables.append(IdTable.open(data, segment.passages))
                else:
                    chunks = PassageStore(data, segment.shards).id_chunks()
                    tables.append(IdTable(large_column(chunks)))
        return tables

    def _live_pieces(self) -> Iterator[Piece]:
        dimension = self.manifest.encoder.dimension
        for segment, live in zip(self.manifest.segments, self._live, strict=True):
            data, start = self.folder / segment.data, 0
            for shard in segment.shards:
                kept = live[start : start + shard.rows]
                start += shard.rows
                if kept.any():
                    with self._told_of(segment):
                        piece = read_piece(data, shard, dimension, self._precision, kept)
                    yield piece

    @contextlib.contextmanager
    def _told_of(self, segment: SegmentRecord) -> Iterator[None]:
        try:
            with told_of(segment):
                yield
        except ValueError as error:
            raise self._damaged(error) from None

    def _damaged(self, error: ValueError) -> ValueError:
        return ValueError(
            f"the index in {self.folder} is damaged ({error}); build it again with --overwrite"
        )
