"""Search an index in Milvus: a query vector to hits, an id to its passage.

Enters: the folder of the index, query vectors. Leaves: hits and passages, as `DenseIndex` gives
them. Milvus finds; the scores are ours, from the vectors that it gives back.

    MilvusIndex.open(Path("my-index")).search(vectors, k=10)
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

from index.dense.products import inner_products
from index.records import Hit, Passage
from index.store.metadata import Where
from retrieval.milvus.collection import MOST_HITS, Collection
from retrieval.milvus.manifest import MilvusManifest

# Rows fetched beyond k, so that rounding in Milvus's own scores cuts off none that is better.
_SPARE = 16


class MilvusIndex:
    """An open index; it shows what is in Milvus, changes by others among it."""

    def __init__(self, folder: Path, manifest: MilvusManifest) -> None:
        """Raises `ValueError` where Milvus does not answer or has no such collection."""
        self.folder = folder
        self.manifest = manifest
        self._collection = Collection(manifest.target.address(folder), manifest.collection)
        self._collection.load()

    @classmethod
    def open(cls, folder: Path | str) -> "MilvusIndex":
        """Open the index whose folder that is; raises `ValueError` as its parts do."""
        folder = Path(folder)
        return cls(folder, MilvusManifest.read(folder))

    has_words = False
    columns: ClassVar[list[str]] = []

    def __len__(self) -> int:
        return len(self._collection)

    def __contains__(self, id_: object) -> bool:
        """Whether there is a passage of that id."""
        return isinstance(id_, str) and bool(self._collection.rows([id_]))

    @cached_property
    def ids(self) -> list[str]:
        """The id of every passage, sorted."""
        return sorted(self._collection.ids())

    def search(self, queries: np.ndarray, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The `k` passages of highest cosine that Milvus finds for each of `queries`, [q, d].

        Equal scores are ordered by id. Raises `ValueError` for a `k` below 1 or above what Milvus
        gives, for vectors of another dimension, and for any condition `where`.
        """
        if where is not None:
            self.where(where)
        dimension = self.manifest.encoder.dimension
        if k < 1:
            raise ValueError(f"k is {k}, wanted at least 1")
        if queries.ndim != 2 or queries.shape[1] != dimension:
            raise ValueError(f"query vectors have shape {queries.shape}, wanted [n, {dimension}]")
        if k > MOST_HITS and (k := min(k, len(self))) > MOST_HITS:
            raise ValueError(f"k is {k}, Milvus gives at most {MOST_HITS:,} hits")
        fetched = min(k + _SPARE, MOST_HITS)
        found = self._collection.search(queries, fetched, self.manifest.target.index_type)
        return [
            _hits(each.ids, _cosines(each.vectors, query), k)
            for query, each in zip(queries, found, strict=True)
        ]

    def where(self, where: Where) -> NoReturn:
        """Raises `ValueError`: Milvus was given no metadata."""
        raise ValueError(
            f"the index in {self.folder} lies in Milvus, without metadata to search by; build one "
            f"of files with --keep"
        )

    def search_words(
        self, queries: Sequence[str], k: int, where: Where | None = None
    ) -> list[list[Hit]]:
        """Raises `ValueError`: Milvus was given no words."""
        raise ValueError(
            f"the index in {self.folder} lies in Milvus and has no lexical leg; build one of files"
        )

    def cosines(self, query: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """The exact cosine, float32 [n], of a unit vector [d] with each of the passages `ids`.

        They are what a search says, bit for bit. Raises `ValueError` for an unknown id.
        """
        rows = self._rows(ids, "vector")
        if not rows:
            return np.empty(0, np.float32)
        return _cosines(np.array([row["vector"] for row in rows], np.float32), query)

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with those ids, in that order; raises `ValueError` for an unknown id."""
        rows = self._rows(ids, "title", "text")
        return [Passage(id_, row["title"], row["text"]) for id_, row in zip(ids, rows, strict=True)]

    def _rows(self, ids: Sequence[str], *fields: str) -> list[dict[str, Any]]:
        found = self._collection.rows(ids, *fields)
        missing = [id_ for id_ in ids if id_ not in found]
        if missing:
            raise ValueError(f"the index in {self.folder} has no passage {missing[0]!r}")
        return [found[id_] for id_ in ids]


def _cosines(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    rows = np.arange(len(vectors))
    return inner_products(vectors, rows, query.astype(np.float32))


def _hits(ids: Sequence[str], scores: np.ndarray, k: int) -> list[Hit]:
    best = sorted(zip(ids, scores.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))
    return [Hit(id_, score, rank) for rank, (id_, score) in enumerate(best[:k], 1)]
