"""Open an index and search it with vectors.

Enters: the folder of an index, unit query vectors. Leaves: hits and passages.

    DenseIndex.open(Path("my-index")).search(vectors, k=10)
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, compress, islice
from pathlib import Path

import numpy as np

from index.dense.products import inner_products
from index.manifest.manifest import Manifest
from index.manifest.words import OFF
from index.records import Hit, Passage
from index.segment import LiveVectors, Segment, faults_of, told_of
from index.store.ids import check_once, check_unique, find_live
from index.store.metadata import IndexMetadata, Where
from index.store.shards import by_part
from index.words.leg import LexicalLeg


class DenseIndex:
    """A whole, published index: vectors, ids and texts of its live passages.

    It stays what it was when it was opened, whatever is added or deleted meanwhile. Opening maps
    its files; what is in them is checked when they are touched, and raises `ValueError` then.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        dimension = manifest.encoder.dimension
        self.segments = [Segment(folder, record, dimension) for record in manifest.segments]
        self.metadata = IndexMetadata(folder, manifest)
        # Inside, rows are numbered through all segments, deleted ones among them.
        self._starts = np.cumsum([0, *(record.passages for record in manifest.segments)])
        # Opened with the rest: a change may delete its files before the first search for words.
        self.lexical = LexicalLeg(folder, manifest) if manifest.lexical != OFF else None

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = False) -> "DenseIndex":
        """Open the index in `folder`; raises `ValueError` when it is none or is damaged.

        With `verify` every byte of its files is read once, and compared with their digests.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder)
        try:
            opened = cls(folder, manifest)
            faults = (fault for each in manifest.segments for fault in faults_of(folder, each))
            if verify and (fault := next(faults, "")):
                raise ValueError(fault)
            return opened
        except (OSError, ValueError) as error:
            if Manifest.read(folder) != manifest:
                return cls.open(folder, verify=verify)  # a build or a change has just replaced it
            raise _damaged(folder, error) from None

    def __len__(self) -> int:
        return self.manifest.passages

    @cached_property
    def vectors(self) -> LiveVectors:
        """The vector of every passage, in the order of `ids`."""
        return LiveVectors(self.segments, self.manifest.encoder.dimension)

    @property
    def has_words(self) -> bool:
        """Whether it has a lexical leg."""
        return self.lexical is not None

    @property
    def columns(self) -> list[str]:
        """The names of the fields that a condition may ask for."""
        return [column.name for column in self.manifest.columns]

    def __contains__(self, id_: object) -> bool:
        """Whether a passage of that id is live."""
        return isinstance(id_, str) and bool(self._find([id_])[0] >= 0)

    @cached_property
    def ids(self) -> list[str]:
        """The id of every passage, in the order in which they were added: all of them in memory.

        `in` asks for one id without them. Raises `ValueError` for an id that stands there twice.
        """
        with self._told():
            lives = [segment.live for segment in self.segments]
            check_unique([segment.ids for segment in self.segments], lives)
            live = chain.from_iterable(mask.tolist() for mask in lives)
            return list(compress(chain.from_iterable(each.ids for each in self.segments), live))

    def search(self, queries: np.ndarray, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The `k` passages of highest cosine for each row of `queries`, float32 [q, d].

        Of those that the condition `where` keeps, if there is one. Gives all of them when there are
        fewer than `k`. Equal scores are ordered by id. Raises `ValueError` for a `k` below 1,
        vectors of another dimension, and as `where`.
        """
        dimension = self.manifest.encoder.dimension
        if k < 1:
            raise ValueError(f"k is {k}, wanted at least 1")
        if queries.ndim != 2 or queries.shape[1] != dimension:
            raise ValueError(f"query vectors have shape {queries.shape}, wanted [n, {dimension}]")
        allowed = [None] * len(self.segments) if where is None else self.where(where)
        with self._told():
            found = [
                _named(segment, segment.search(queries, k, rows))
                for segment, rows in zip(self.segments, allowed, strict=True)
            ]
            return [_hits([each[query] for each in found], k) for query in range(len(queries))]

    def where(self, where: Where) -> Sequence[np.ndarray]:
        """Which rows are live and kept by a condition on metadata, bool [n] for each segment.

        The condition is a text (`index/store/where.py`) or a pyarrow expression over the columns.
        Raises `TypeError` or `ValueError` for one that does not fit them.
        """
        masks = self.metadata.masks(where)
        return [mask & segment.live for mask, segment in zip(masks, self.segments, strict=True)]

    def search_words(
        self, queries: Sequence[str], k: int, where: Where | None = None
    ) -> list[list[Hit]]:
        """The `k` passages of highest BM25 score for each query; none that shares no word with it.

        Of those that the condition `where` keeps, if there is one. Equal scores are ordered by id.
        Deleted passages are not found, but count where a score asks how rare a word is, until the
        index is compacted. Raises `ValueError` for a `k` below 1, for an index without a lexical
        leg, and as `where`.
        """
        if k < 1:
            raise ValueError(f"k is {k}, wanted at least 1")
        if self.lexical is None:
            raise ValueError(
                f"the index in {self.folder} has no lexical leg; "
                f"`python -m retrieval.index compact {self.folder} --lexical english` adds it"
            )
        live = [each.live for each in self.segments] if where is None else self.where(where)
        with self._told():
            return [self._hits_by_words(query, k, live) for query in queries]

    def _hits_by_words(self, query: str, k: int, live: Sequence[np.ndarray]) -> list[Hit]:
        def is_live(rows: np.ndarray) -> np.ndarray:
            found = np.empty(len(rows), bool)
            for owner, mine, places in by_part(self._starts, rows):
                found[mine] = live[owner][places]
            return found

        assert self.lexical is not None
        rows, scores = self.lexical.search(query, k, is_live)
        named = []
        for owner, mine, places in by_part(self._starts, rows):
            segment = self.segments[owner]
            with told_of(segment.record):
                named += _named(segment, [(places, scores[mine])])
        return _hits(named, k)

    def cosines(self, query: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """The exact cosine, float32 [n], of a unit vector [d] with each of the passages `ids`.

        They are what a search says, bit for bit. Raises `ValueError` for an unknown id.
        """
        rows = self._rows(ids)
        cosines = np.empty(len(rows), np.float32)
        with self._told():
            for owner, mine, places in by_part(self._starts, rows):
                segment = self.segments[owner]
                with told_of(segment.record):
                    cosines[mine] = inner_products(
                        segment.vectors, places, query.astype(np.float32)
                    )
        return cosines

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with those ids, in that order; raises `ValueError` for an unknown id."""
        rows = self._rows(ids)
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        places = rows - self._starts[owners]
        with self._told():
            return [
                self.segments[owner]
                .passage(row, id_)
                ._replace(metadata=self.metadata.row(owner, row))
                for owner, row, id_ in zip(owners.tolist(), places.tolist(), ids, strict=True)
            ]

    def _rows(self, ids: Sequence[str]) -> np.ndarray:
        """The row of each id, int64 [n]."""
        strings = [id_ if isinstance(id_, str) else "" for id_ in ids]
        rows = self._find(strings)
        for id_, string, row in zip(ids, strings, rows.tolist(), strict=True):
            if row < 0 or id_ != string:
                raise ValueError(f"the index in {self.folder} has no passage {id_!r}")
        return rows

    def _find(self, ids: Sequence[str]) -> np.ndarray:
        with self._told():
            segments = self.segments
            return find_live([each.ids for each in segments], [each.live for each in segments], ids)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Let what is raised about a file that is touched late name the index and the remedy."""
        try:
            yield
        except ValueError as error:
            if _was_replaced(self.folder, self.manifest):
                raise ValueError(
                    f"the index in {self.folder} has changed since it was opened ({error}); open "
                    f"it again"
                ) from None
            raise _damaged(self.folder, error) from None


def _was_replaced(folder: Path, manifest: Manifest) -> bool:
    try:
        return Manifest.read(folder) != manifest
    except (OSError, ValueError):
        return False


def _damaged(folder: Path, error: Exception) -> ValueError:
    return ValueError(
        f"the index in {folder} is damaged ({error}); build it again with --overwrite"
    )


# The least is the best, and of equal ones the first id: a score turned negative, and an id.
_Named = tuple[float, str]


def _named(segment: Segment, found: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[list[_Named]]:
    """What a segment found for each query, by ids in the place of rows."""
    rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in found)])
    scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in found)])
    named = zip((-scores).tolist(), segment.ids_of(rows), strict=True)
    return [list(islice(named, len(rows))) for rows, _ in found]


def _hits(found: Sequence[list[_Named]], k: int) -> list[Hit]:
    """The best `k` of what each segment found: every segment gave as many, or all it has."""
    best = sorted(chain.from_iterable(found))
    check_once([id_ for _, id_ in best])
    return [Hit(id_, -negative, rank) for rank, (negative, id_) in enumerate(best[:k], 1)]
