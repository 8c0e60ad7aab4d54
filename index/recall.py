"""Recall of an index against exact search, on queries that are none of its own vectors.

Enters: a search, vectors. Leaves: the share of the best ten that it finds.
"""

from collections.abc import Callable

import numpy as np

from index.products import Vectors


def exact_search(queries: np.ndarray, vectors: Vectors, k: int) -> np.ndarray:
    """Brute force: the best `k` inner products [q, k] of each query. The slow twin of FAISS."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    for part in vectors.parts:
        scores = np.concatenate([best, queries @ part.T], axis=1)
        best = -np.partition(-scores, k - 1, axis=1)[:, :k]
    return -np.sort(-best, axis=1)


def recall_at_10(
    search: Callable[[np.ndarray, int], list[np.ndarray]], vectors: Vectors, queries: int
) -> tuple[float, int]:
    """Recall@10 of searches against exact search, and how many queries were asked.

    `search` gives the scores of its best k for each query. Queries are `queries` of the index's own
    vectors, evenly spread. Scores decide, not rows: which of two equal passages comes tenth is
    nobody's mistake. Where there are no vectors nothing is missed.
    """
    if not len(vectors):
        return 1.0, 0
    rows = np.linspace(0, len(vectors) - 1, min(queries, len(vectors))).astype(np.int64)
    asked = vectors[rows]
    k = min(10, len(vectors))
    exact = exact_search(asked, vectors, k)
    hits = sum(
        min(k, int((scores >= best[-1] - 1e-6).sum()))
        for best, scores in zip(exact, search(asked, k), strict=True)
    )
    return hits / (k * len(asked)), len(asked)
