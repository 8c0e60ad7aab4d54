"""Several rankings of one query as one: by their ranks, or by their scores.

Enters: scores by id, each ranking's own. Leaves: one ranking, best first; equal ones go by id.

    reciprocal_rank_fusion([{"a": 9.0, "b": 8.0}, {"b": 0.7}], k=100)
"""

from collections.abc import Mapping, Sequence

# The constant of Cormack, Clarke and Büttcher, SIGIR 2009.
_SHIFT = 60


def reciprocal_rank_fusion(rankings: Sequence[Mapping[str, float]], k: int) -> dict[str, float]:
    """The `k` best passages by the sum of 1 / (60 + rank) over `rankings`.

    Ranks go by (score descending, id); a passage that a ranking lacks gets nothing from it.
    """
    sums: dict[str, float] = {}
    for scores in rankings:
        for rank, id_ in enumerate(_best(scores, len(scores)), 1):
            sums[id_] = sums.get(id_, 0.0) + 1 / (_SHIFT + rank)
    return _best(sums, k)


def weighted_sum(
    rankings: Sequence[Mapping[str, float]], weights: Sequence[float], k: int
) -> dict[str, float]:
    """The `k` best passages by the weighted sum of their scores, each ranking's laid over [0, 1].

    The best of a ranking becomes 1 and the last 0 (min-max); where all are equal, 1. A passage that
    a ranking lacks gets nothing from it, as its last one.
    """
    sums: dict[str, float] = {}
    for scores, weight in zip(rankings, weights, strict=True):
        low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
        for id_, score in scores.items():
            share = (score - low) / (high - low) if high > low else 1.0
            sums[id_] = sums.get(id_, 0.0) + weight * share
    return _best(sums, k)


def _best(scores: Mapping[str, float], k: int) -> dict[str, float]:
    ordered = sorted(scores, key=lambda id_: (-scores[id_], id_))
    return {id_: scores[id_] for id_ in ordered[:k]}
