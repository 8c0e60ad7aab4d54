"""Hard negatives: passages that the encoder finds close to a query, and not too close.

Enters: vectors. Leaves: rows of passages, a fixed number for each query.
"""

from collections.abc import Collection, Sequence

import numpy as np

_QUERIES_AT_A_TIME = 256


def hard_negatives(
    queries: np.ndarray,
    passages: np.ndarray,
    own: np.ndarray,
    relevant: Sequence[Collection[int]],
    count: int,
    margin: float,
) -> np.ndarray:
    """int64 [n, count]: the best passages of each query, but for its own and those too close.

    `queries` [n, d], `passages` [m, d] and `own` [n, d], the query's passage, are unit vectors;
    rows in `relevant[i]` are never taken. What scores above `margin` times the own passage may
    answer too (the positive-aware mining of NV-Retriever, arXiv 2407.15831), and comes last, the
    least close first. Raises `ValueError` where a query has fewer than `count` passages to take.
    """
    positive = (queries * own).sum(1)
    taken = np.empty((len(queries), count), np.int64)
    for start in range(0, len(queries), _QUERIES_AT_A_TIME):
        scores = queries[start : start + _QUERIES_AT_A_TIME] @ passages.T
        for row, each in enumerate(scores, start):
            banned = list(relevant[row])
            if len(passages) - len(banned) < count:
                raise ValueError(
                    f"{len(passages)} passages leave fewer than {count} negatives a query: "
                    f"lower --negatives"
                )
            ceiling = margin * float(positive[row])
            # Cosines lie in [-1, 1]: below -1 a score is one that is too close, upside down.
            order = np.where(each > ceiling, -2 - each, each)
            order[banned] = -np.inf
            taken[row] = np.argsort(-order, kind="stable")[:count]
    return taken
