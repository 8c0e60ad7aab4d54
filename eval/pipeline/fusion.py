"""Several runs as one: reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009).

Enters: runs. Leaves: a run.

    reciprocal_rank_fusion([{"q": {"a": 9.0, "b": 8.0}}, {"q": {"b": 0.7}}], k=100)
"""

from collections.abc import Sequence

from eval.files.trec import Run

# The paper's constant.
_SHIFT = 60


def reciprocal_rank_fusion(runs: Sequence[Run], k: int) -> Run:
    """The `k` best passages of each query by the sum of 1 / (60 + rank) over `runs`.

    Ranks go by (score descending, id); a passage that a run lacks gets nothing from it.
    """
    fused: dict[str, dict[str, float]] = {}
    for run in runs:
        for query_id, scores in run.items():
            sums = fused.setdefault(query_id, {})
            ordered = sorted(scores, key=lambda id_: (-scores[id_], id_))
            for rank, id_ in enumerate(ordered, 1):
                sums[id_] = sums.get(id_, 0.0) + 1 / (_SHIFT + rank)
    return {query_id: _best(sums, k) for query_id, sums in fused.items()}


def _best(sums: dict[str, float], k: int) -> dict[str, float]:
    ordered = sorted(sums, key=lambda id_: (-sums[id_], id_))
    return {id_: sums[id_] for id_ in ordered[:k]}
