"""Change an index without building it again: a segment more, rows deleted, one manifest.

Enters: the folder of an index, passages with their vectors, ids. Leaves: the next state of the
index. Nothing of the old state is touched before the new manifest takes its place by one rename; a
killed change is dropped by the next writer (`index/journal.py`).

    with only_writer(folder), IndexChange(folder) as change:
        change.delete(change.find(["p7"]))
        change.commit()
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from index.faiss_index import AUTO
from index.files import sync_folder
from index.folder import next_data, tidy, unfinished_in
from index.journal import Journal, settle, write_journal
from index.manifest import Manifest, SegmentRecord, ShardRecord, counted
from index.pieces import Piece, read_piece, regrouped
from index.plan import data_number
from index.records import Passage
from index.segment import finish_segment, read_live, told_of, write_deletions
from index.shards import PassageStore, by_part, write_shard


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
        """The row, int64 [n], of each id; -1 for one that no live passage of the manifest has."""
        column, rows = self._located
        places = pc.index_in(pa.array(ids, pa.string()), value_set=column).fill_null(-1)
        return np.append(rows, -1)[places.to_numpy()]

    def delete(self, rows: np.ndarray) -> None:
        """Mark rows as deleted, from the commit on."""
        for owner, _, places in by_part(self._starts, rows):
            self._live[owner][places] = False
            self._touched.add(owner)

    def add_shard(self, passages: Sequence[Passage], vectors: np.ndarray, truncated: int) -> None:
        """Write the next shard of the new segment; the caller sees to it that no id is live."""
        place = self.folder / self._begin()
        if not self._shards:
            place.mkdir()
            sync_folder(self.folder)
        self._shards.append(write_shard(place, len(self._shards), passages, vectors, truncated))

    def move_all(self, shard_size: int) -> None:
        """Copy every live passage into the new segment, and delete it where it was.

        Raises `ValueError` for a shard that has changed since it was written: a copy would hide it.
        """
        for passages, vectors, truncated in regrouped(self._live_pieces(), shard_size):
            self.add_shard(passages, vectors, truncated)
        self.delete(np.arange(self._starts[-1]))

    def commit(
        self,
        *,
        factory: str = AUTO,
        skipped: int = 0,
        created_by: Mapping[str, str] | None = None,
        deterministic: bool = False,
    ) -> Manifest:
        """Finish the new segment, write what is deleted, and make both the index by one rename.

        A segment of which nothing is live is left out. `created_by` None keeps that of the build;
        `deterministic` as for `build_faiss`.
        Raises `ValueError` for a factory string that FAISS can't build over the new segment.
        """
        data = self._begin()
        segments = []
        for number, segment in enumerate(self.manifest.segments):
            if number not in self._touched:
                segments.append(segment)
            elif (live := self._live[number]).any():
                place = self.folder / segment.data
                deleted = write_deletions(place, segment.next_deletions, live)
                segments.append(replace(segment, deleted=deleted))
        if self._shards:
            place, dimension = self.folder / data, self.manifest.encoder.dimension
            segments.append(
                finish_segment(
                    place, data, self._shards, dimension, factory, deterministic=deterministic
                )
            )
        manifest = replace(
            self.manifest,
            segments=tuple(segments),
            last_data=data_number(data) if self._shards else self.manifest.last_data,
            skipped=self.manifest.skipped + skipped,
            created_by=dict(created_by or self.manifest.created_by),
            changes=self.manifest.changes + 1,
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

    @cached_property
    def _live(self) -> list[np.ndarray]:
        """What is live of each segment now, bool [n] each."""
        masks = []
        for segment in self.manifest.segments:
            with self._told_of(segment):
                masks.append(read_live(self.folder / segment.data, segment))
        return masks

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(segment.passages for segment in self.manifest.segments)])

    @cached_property
    def _located(self) -> tuple[pa.ChunkedArray, np.ndarray]:
        """The ids of the manifest's live passages, and their rows."""
        chunks: list[pa.Array] = []
        for segment, live in zip(self.manifest.segments, self._live, strict=True):
            with self._told_of(segment):
                column = PassageStore(self.folder / segment.data, segment.shards).id_column()
            chunks += column.filter(pa.array(live)).chunks
        rows = np.flatnonzero(np.concatenate([np.empty(0, bool), *self._live]))
        return pa.chunked_array(chunks, pa.string()), rows

    def _live_pieces(self) -> Iterator[Piece]:
        for segment, live in zip(self.manifest.segments, self._live, strict=True):
            data, start = self.folder / segment.data, 0
            for shard in segment.shards:
                kept = live[start : start + shard.rows]
                start += shard.rows
                if kept.any():
                    with self._told_of(segment):
                        piece = read_piece(data, shard, self.manifest.encoder.dimension, kept)
                    yield piece

    @contextlib.contextmanager
    def _told_of(self, segment: SegmentRecord) -> Iterator[None]:
        try:
            with told_of(segment):
                yield
        except ValueError as error:
            raise ValueError(
                f"the index in {self.folder} is damaged ({error}); build it again with --overwrite"
            ) from None
