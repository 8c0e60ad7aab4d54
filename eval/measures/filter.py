"""What a filter between retrieval and reranking kept, and what it lost.

Enters: qrels, the candidates of each query, and those the filter kept. Leaves: set measures.

    python -c "from eval.measures.filter import filter_measures as f; \
print(f({'q': {'a': 1}}, {'q': ['a', 'b']}, {'q': ['a']}))"
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class FilterMeasures:
    """Shares lie in [0, 1]; None where nothing could be counted.

    `recall` is over relevant candidates: what retrieval missed is not the filter's loss.
    `precision` is over judged kept passages, `precision_unjudged_as_irrelevant` over all kept
    ones. The macro values average over queries that have a relevant candidate (recall) or kept a
    judged passage (precision). `null` are queries that kept nothing; `wrongly_null` those of them
    that had a relevant candidate, as a share of the queries that had one.
    """

    queries: int
    candidates: int
    kept: int
    filtered: float
    precision: float | None
    precision_unjudged_as_irrelevant: float | None
    recall: float | None
    f1: float | None
    macro_precision: float | None
    macro_recall: float | None
    null: float
    wrongly_null: float | None
    kept_percentiles: dict[int, float]


def filter_measures(
    qrels: Mapping[str, Mapping[str, int]],
    candidates: Mapping[str, Collection[str]],
    kept: Mapping[str, Collection[str]],
    *,
    minimum_grade: int = 1,
) -> FilterMeasures:
    """Compare what was kept with what was there, on every query that has candidates.

    A query that `kept` lacks kept nothing. Raises `ValueError` for no candidates at all, and where
    something was kept that was no candidate.
    """
    rows = []
    for query_id, before in candidates.items():
        after = set(kept.get(query_id, ()))
        strange = after - set(before)
        if strange:
            raise ValueError(
                f"query {query_id!r} keeps {min(strange)!r}, which is none of its candidates; "
                "are both runs of the same retrieval?"
            )
        grades = qrels.get(query_id, {})
        relevant = {p for p in before if grades.get(p, minimum_grade - 1) >= minimum_grade}
        rows.append(
            (
                len(set(before)),
                len(after),
                len(relevant),
                len(relevant & after),
                sum(p in grades for p in after),
            )
        )
    if not rows or not any(row[0] for row in rows):
        raise ValueError("no query has a candidate: there was nothing to filter")
    unknown = sorted(set(kept) - set(candidates))
    if unknown:
        raise ValueError(f"query {unknown[0]!r} keeps passages but has no candidates")
    before, after, relevant, found, judged = np.array(rows).T
    precision, recall = _share(found, judged), _share(found, relevant)
    had = relevant > 0
    return FilterMeasures(
        queries=len(rows),
        candidates=int(before.sum()),
        kept=int(after.sum()),
        filtered=1 - float(after.sum() / before.sum()),
        precision=precision,
        precision_unjudged_as_irrelevant=_share(found, after),
        recall=recall,
        f1=None
        if precision is None or recall is None
        else 2 * precision * recall / (precision + recall)
        if precision + recall
        else 0.0,
        macro_precision=_mean_share(found, judged),
        macro_recall=_mean_share(found, relevant),
        null=float((after == 0).mean()),
        wrongly_null=float((after[had] == 0).mean()) if had.any() else None,
        kept_percentiles={
            percentile: float(np.percentile(after, percentile)) for percentile in PERCENTILES
        },
    )


def _share(part: np.ndarray, whole: np.ndarray) -> float | None:
    return float(part.sum() / whole.sum()) if whole.sum() else None


def _mean_share(part: np.ndarray, whole: np.ndarray) -> float | None:
    counted = whole > 0
    return float((part[counted] / whole[counted]).mean()) if counted.any() else None
