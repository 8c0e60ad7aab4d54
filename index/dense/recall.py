"""Recall of an index against exact search, on queries that are none of its own vectors.

Enters: a search, vectors. Leaves: the share of the best ten that it finds.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from index.dense.products import Vectors

# How much of another row is added to a row: so much that such queries are as hard to answer as real
# ones are (docs/index.md). The rows themselves are easier, and so is what lies between neighbours.
_OF_ANOTHER = 0.4
_SEED = 1234


class WholeTable(Vectors, Protocol):
    """Vectors that can be read part by part too."""

    @property
    def parts(self) -> Iterable[np.ndarray]:
        """All of them, float32 [n, d] a part."""
        ...


def exact_search(queries: np.ndarray, vectors: WholeTable, k: int) -> np.ndarray:
    """Brute force: the best `k` inner products [q, k] of each query. The slow twin of FAISS."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    for part in vectors.parts:
        scores = np.concatenate([best, queries @ part.T], axis=1)
        best = -np.partition(-scores, k - 1, axis=1)[:, :k]
    return -np.sort(-best, axis=1)


def mixed_queries(vectors: Vectors, count: int) -> np.ndarray:
    """Unit vectors [q, d]: evenly spread rows, each with something of another, seeded row.

    A row itself is easier to find than a query, for links and lists were made for it.
    """
    rows = np.linspace(0, len(vectors) - 1, min(count, len(vectors))).astype(np.int64)
    others = np.random.default_rng(_SEED).integers(len(vectors), size=len(rows))
    mixed = vectors[rows] + np.float32(_OF_ANOTHER) * vectors[others]
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def recall_at_10(
    search: Callable[[np.ndarray, int], list[np.ndarray]], vectors: WholeTable, queries: int
) -> tuple[float, int]:
    """Recall@10 of searches against exact search, and how many queries were asked.

    `search` gives the scores of its best k for each query; they are `mixed_queries`. Scores
    decide, not rows: which of two equal passages comes tenth is nobody's mistake. Where there are
    no vectors nothing is missed.
    """
    if not len(vectors):
        return 1.0, 0
    asked = mixed_queries(vectors, queries)
    k = min(10, len(vectors))
    exact = exact_search(asked, vectors, k)
    hits = sum(
        min(k, int((scores >= best[-1] - 1e-6).sum()))
        for best, scores in zip(exact, search(asked, k), strict=True)
    )
    return hits / (k * len(asked)), len(asked)
