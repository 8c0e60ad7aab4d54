"""How well an encoder finds held-out passages among all, and whether a change of it is clear.

Enters: vectors of queries and passages. Leaves: measures a query, and paired intervals.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from retrieval.training.pairs import Pair

MEASURES = ("nDCG@10", "RR@10", "R@100")
DECIDING = MEASURES[0]
_DEPTH = 100
_QUERIES_AT_A_TIME = 256
_RESAMPLES, _RESAMPLES_AT_A_TIME = 10_000, 500


class Gain(NamedTuple):
    """Means of a measure before and after, their difference, and its 95 % interval."""

    before: float
    after: float
    gain: float
    low: float
    high: float


def measured(
    pairs: Sequence[Pair],
    queries: np.ndarray,
    own: np.ndarray,
    ids: Sequence[str],
    passages: np.ndarray,
) -> dict[str, list[float]]:
    """Each of `MEASURES` for each query of `pairs`, in the order they first come in.

    `queries` and `own` [n, d] are the vectors of the pairs' queries and of their texts, `passages`
    [m, d] those of the passages `ids`. A pair's passage scores by its own text: a query that was
    cut out of it is not found in it. Equal scores are ordered as trec_eval does.
    """
    from ir_measures import iter_calc, parse_measure

    place = {id_: row for row, id_ in enumerate(ids)}
    of_query: dict[str, list[int]] = {}
    for row, pair in enumerate(pairs):
        of_query.setdefault(pair.query, []).append(row)
    qrels, run = {}, {}
    asked = list(of_query)
    for start in range(0, len(asked), _QUERIES_AT_A_TIME):
        batch = asked[start : start + _QUERIES_AT_A_TIME]
        scores = queries[[of_query[query][0] for query in batch]] @ passages.T
        for number, (query, each) in enumerate(zip(batch, scores, strict=True), start):
            for row in of_query[query]:
                each[place[pairs[row].id]] = queries[row] @ own[row]
            best = np.argsort(-each, kind="stable")[:_DEPTH]
            qrels[str(number)] = {pairs[row].id: 1 for row in of_query[query]}
            run[str(number)] = {ids[row]: float(each[row]) for row in best}
    found: dict[str, list[float]] = {name: [0.0] * len(asked) for name in MEASURES}
    for metric in iter_calc([parse_measure(name) for name in MEASURES], qrels, run):
        found[str(metric.measure)][int(metric.query_id)] = float(metric.value)
    return found


def gains(
    before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]], seed: int
) -> dict[str, Gain]:
    """What each measure gained: percentile bootstrap over queries, paired, 10,000 resamples."""
    from scipy.stats import bootstrap

    found = {}
    for name in MEASURES:
        differences = np.asarray(after[name]) - np.asarray(before[name])
        interval = bootstrap(
            (differences,),
            np.mean,
            n_resamples=_RESAMPLES,
            batch=_RESAMPLES_AT_A_TIME,
            method="percentile",
            random_state=seed,
        ).confidence_interval
        found[name] = Gain(
            float(np.mean(before[name])),
            float(np.mean(after[name])),
            float(differences.mean()),
            float(interval.low),
            float(interval.high),
        )
    return found
