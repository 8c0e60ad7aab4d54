"""Open an index and search it with vectors.

Enters: the folder of an index, unit query vectors. Leaves: hits and passages.

    DenseIndex.open(Path("my-index")).search(vectors, k=10)
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import chain, compress
from pathlib import Path

import numpy as np

from index.faiss_index import inner_products
from index.lexical import LexicalLeg
from index.lexical_record import OFF
from index.manifest import Manifest
from index.records import Hit, Passage
from index.segment import LiveVectors, Segment, told_of
from index.shards import by_part


class DenseIndex:
    """A whole, published index: vectors, ids and texts of its live passages.

    It stays what it was when it was opened, whatever is added or deleted meanwhile.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        dimension = manifest.encoder.dimension
        self.segments = [Segment(folder, record, dimension) for record in manifest.segments]
        # Inside, rows are numbered through all segments, deleted ones among them.
        self._starts = np.cumsum([0, *(record.passages for record in manifest.segments)])
        # Opened with the rest: a change may delete its files before the first search for words.
        self.lexical = LexicalLeg(folder, manifest) if manifest.lexical != OFF else None

    @classmethod
    def open(cls, folder: Path | str) -> "DenseIndex":
        """Open the index in `folder`; raises `ValueError` when it is none or is damaged."""
        folder = Path(folder)
        manifest = Manifest.read(folder)
        try:
            return cls(folder, manifest)
        except (OSError, ValueError) as error:
            if Manifest.read(folder) != manifest:
                return cls.open(folder)  # a build or a change has just replaced it
            raise ValueError(
                f"the index in {folder} is damaged ({error}); build it again with --overwrite"
            ) from None

    def __len__(self) -> int:
        return self.manifest.passages

    @cached_property
    def vectors(self) -> LiveVectors:
        """The vector of every passage, in the order of `ids`."""
        return LiveVectors(self.segments, self.manifest.encoder.dimension)

    @cached_property
    def ids(self) -> list[str]:
        """The id of every passage, in the order in which they were added.

        Raises `ValueError` for an id that two of them have.
        """
        if not self.manifest.deleted:
            return self._id_of
        live = chain.from_iterable(segment.live.tolist() for segment in self.segments)
        return list(compress(self._id_of, live))

    @cached_property
    def _id_of(self) -> list[str]:
        """The id of every row."""
        if len(self.segments) == 1:
            return self.segments[0].ids
        live = [id_ for part in self.segments for id_ in compress(part.ids, part.live.tolist())]
        if len(set(live)) < len(live):
            raise ValueError(f"the index in {self.folder} is damaged: an id stands in it twice")
        return list(chain.from_iterable(segment.ids for segment in self.segments))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        live = np.concatenate([np.empty(0, bool), *(segment.live for segment in self.segments)])
        return dict(zip(self.ids, np.flatnonzero(live).tolist(), strict=True))

    def search(self, queries: np.ndarray, k: int) -> list[list[Hit]]:
        """The `k` passages of highest cosine for each row of `queries`, float32 [q, d].

        Gives all passages when `k` is larger than the corpus. Equal scores are ordered by id.
        Raises `ValueError` for a `k` below 1 or vectors of another dimension.
        """
        dimension = self.manifest.encoder.dimension
        if k < 1:
            raise ValueError(f"k is {k}, wanted at least 1")
        if queries.ndim != 2 or queries.shape[1] != dimension:
            raise ValueError(f"query vectors have shape {queries.shape}, wanted [n, {dimension}]")
        found = [segment.search(queries, k) for segment in self.segments]
        return [self._hits([each[query] for each in found], k) for query in range(len(queries))]

    def search_words(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The `k` passages of highest BM25 score for each query; none that shares no word with it.

        Equal scores are ordered by id. Deleted passages are not found, but count where a score asks
        how rare a word is, until the index is compacted. Raises `ValueError` for a `k` below 1, and
        for an index without a lexical leg.
        """
        if k < 1:
            raise ValueError(f"k is {k}, wanted at least 1")
        if self.lexical is None:
            raise ValueError(
                f"the index in {self.folder} has no lexical leg; "
                f"`python -m retrieval.index compact {self.folder} --lexical english` adds it"
            )
        hits = []
        for query in queries:
            rows, scores = self.lexical.search(query, k, self._live)
            found = [(rows[:0], scores[:0])] * len(self.segments)
            for owner, mine, places in by_part(self._starts, rows):
                found[owner] = (places, scores[mine])
            hits.append(self._hits(found, k))
        return hits

    def _live(self, rows: np.ndarray) -> np.ndarray:
        """Which of `rows`, int64 [n], are live, bool [n]."""
        live = np.empty(len(rows), bool)
        for owner, mine, places in by_part(self._starts, rows):
            live[mine] = self.segments[owner].live[places]
        return live

    def cosines(self, query: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """The exact cosine, float32 [n], of a unit vector [d] with each of the passages `ids`.

        They are what a search says, bit for bit. Raises `ValueError` for an unknown id.
        """
        rows = np.array(self._rows(ids), np.int64)
        cosines = np.empty(len(rows), np.float32)
        for owner, mine, places in by_part(self._starts, rows):
            vectors = self.segments[owner].vectors
            cosines[mine] = inner_products(vectors, places, query.astype(np.float32))
        return cosines

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with those ids, in that order; raises `ValueError` for an unknown id."""
        return [self._passage(row) for row in self._rows(ids)]

    def _passage(self, row: int) -> Passage:
        owner = int(np.searchsorted(self._starts, row, side="right")) - 1
        segment = self.segments[owner]
        with told_of(segment.record):
            return segment.store[row - int(self._starts[owner])]

    def _rows(self, ids: Sequence[str]) -> list[int]:
        missing = [id_ for id_ in ids if id_ not in self._row_of]
        if missing:
            raise ValueError(f"the index in {self.folder} has no passage {missing[0]!r}")
        return [self._row_of[id_] for id_ in ids]

    def _hits(self, found: Sequence[tuple[np.ndarray, np.ndarray]], k: int) -> list[Hit]:
        """The best `k` of what each segment found: every segment gave as many, or all it has."""
        best = sorted(
            (
                (self._id_of[start + row], float(score))
                for start, (rows, scores) in zip(self._starts, found, strict=False)
                for row, score in zip(rows, scores, strict=True)
            ),
            key=lambda hit: (-hit[1], hit[0]),
        )
        return [Hit(id_, score, rank) for rank, (id_, score) in enumerate(best[:k], 1)]
