"""Open an index and search it with vectors.

Enters: the folder of an index, unit query vectors. Leaves: hits and passages.

    DenseIndex.open(Path("my-index")).search(vectors, k=10)
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from index.faiss_index import read_faiss, search_faiss
from index.manifest import FAISS_FILE, Manifest
from index.records import Hit, Passage
from index.shards import PassageStore, VectorTable


class DenseIndex:
    """A whole, published index: vectors, ids and texts."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        data = folder / manifest.data
        dimension = manifest.encoder.dimension
        self._faiss = read_faiss(data, FAISS_FILE, dimension, manifest.passages)
        self._store = PassageStore(data, manifest.shards)
        self.vectors = VectorTable(data, manifest.shards, dimension)

    @classmethod
    def open(cls, folder: Path | str) -> "DenseIndex":
        """Open the index in `folder`; raises `ValueError` when it is none or is damaged."""
        folder = Path(folder)
        manifest = Manifest.read(folder)
        try:
            return cls(folder, manifest)
        except (OSError, ValueError) as error:
            if Manifest.read(folder) != manifest:
                return cls.open(folder)  # a build has just replaced it
            raise ValueError(
                f"the index in {folder} is damaged ({error}); build it again with --overwrite"
            ) from None

    def __len__(self) -> int:
        return self.manifest.passages

    @cached_property
    def ids(self) -> list[str]:
        """The id of every row."""
        return self._store.ids()

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(self.ids)}

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
        k = min(k, len(self))
        found = search_faiss(self._faiss, self.manifest.faiss_factory, self.vectors, queries, k)
        return [self._hits(rows, scores)[:k] for rows, scores in found]

    def cosines(self, query: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """The exact cosine, float32 [n], of a unit vector [d] with each of the passages `ids`.

        Raises `ValueError` for an unknown id.
        """
        vectors = self.vectors[np.array(self._rows(ids), dtype=np.int64)]
        return vectors @ query.astype(np.float32)

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with those ids, in that order; raises `ValueError` for an unknown id."""
        return [self._store[row] for row in self._rows(ids)]

    def _rows(self, ids: Sequence[str]) -> list[int]:
        missing = [id_ for id_ in ids if id_ not in self._row_of]
        if missing:
            raise ValueError(f"the index in {self.folder} has no passage {missing[0]!r}")
        return [self._row_of[id_] for id_ in ids]

    def _hits(self, rows: np.ndarray, scores: np.ndarray) -> list[Hit]:
        found = sorted(
            ((self.ids[row], float(score)) for row, score in zip(rows, scores, strict=True)),
            key=lambda hit: (-hit[1], hit[0]),
        )
        return [Hit(id_, score, rank) for rank, (id_, score) in enumerate(found, 1)]
