"""Rank measures of a run against qrels, per query and averaged, through ir-measures.

Enters: qrels, a run, measure names (`nDCG@10`, `RR@10`, `R@100`, `AP`, `Judged@10`, ...).
Leaves: an `Evaluation` with one value per judged query and measure, and what did not match.

    python -c "from eval.measures.ranking import evaluate; \
print(evaluate({'q': {'a': 1}}, {'q': {'a': .9, 'b': .8}}, ['nDCG@10']).means)"
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DEFAULT_MEASURES = ("nDCG@10", "RR@10", "R@100", "AP", "Judged@10")

# Queries handed to the providers at a time: bounds the memory of the re-ordered copy of a run.
QUERIES_AT_A_TIME = 500


@dataclass(frozen=True)
class Evaluation:
    """Values of one run on one set of qrels.

    `values[measure]` is float64 [Q] in the order of `query_ids`; `means` averages over all of
    them (measures that count, such as `NumRet`, are added up and named in `summed`). `missing`
    are judged queries that the run lacks: they count 0 and are in `query_ids`. `ignored` are
    queries of the run that nobody judged: they count nowhere. `without_relevant` are judged
    queries on which no run can score, because no passage of theirs has a grade above 0.
    """

    query_ids: tuple[str, ...]
    values: dict[str, np.ndarray]
    means: dict[str, float]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]
    without_relevant: tuple[str, ...]
    summed: frozenset[str]

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the measures, in the order asked for."""
        return tuple(self.values)

    def per_query(self) -> dict[str, dict[str, float]]:
        """Return `{query id: {measure: value}}`."""
        return {
            query_id: {name: float(column[row]) for name, column in self.values.items()}
            for row, query_id in enumerate(self.query_ids)
        }


def evaluate(
    qrels: Mapping[str, Mapping[str, int]],
    run: Mapping[str, Mapping[str, float]],
    measures: Sequence[str] = DEFAULT_MEASURES,
) -> Evaluation:
    """Evaluate `run` on every query of `qrels`.

    Ties are broken as trec_eval does, for every measure alike: scores are compared as float32
    (so scores closer than that are ties), then the document id, descending. A query that the run
    lacks, or lists no passage for, counts 0.

    Raises `ValueError` for an unknown measure, for a score that is not finite, for an id that C
    code would cut or refuse (a NUL, half of a surrogate pair), and where no query or no passage of
    the run is known to the qrels: that is a wrong file, not a bad system.
    """
    parsed = {name: parse_measure(name) for name in measures}
    if not parsed:
        raise ValueError("no measure named; name at least one, for example nDCG@10")
    check_overlap(qrels, run)
    _check_values(qrels, run)

    query_ids = tuple(qrels)
    row_of = {query_id: row for row, query_id in enumerate(query_ids)}
    # Two names may mean one measure (`MRR@10` is `RR@10`): it is computed once.
    columns: dict[Any, np.ndarray] = {
        measure: np.zeros(len(query_ids)) for measure in parsed.values()
    }
    for start in range(0, len(query_ids), QUERIES_AT_A_TIME):
        part = query_ids[start : start + QUERIES_AT_A_TIME]
        for metric in _values({query_id: qrels[query_id] for query_id in part}, run, columns):
            columns[metric.measure][row_of[metric.query_id]] = metric.value

    from ir_measures.measures.base import SumAgg

    means = {}
    summed = set()
    for name, measure in parsed.items():
        aggregator = measure.aggregator()
        if isinstance(aggregator, SumAgg):
            summed.add(name)
        for value in columns[measure].tolist():
            aggregator.add(value)
        means[name] = float(aggregator.result())
    return Evaluation(
        query_ids=query_ids,
        values={name: columns[measure] for name, measure in parsed.items()},
        means=means,
        missing=tuple(query_id for query_id in query_ids if not run.get(query_id)),
        ignored=tuple(query_id for query_id in run if query_id not in qrels),
        without_relevant=tuple(
            query_id
            for query_id, grades in qrels.items()
            if all(grade <= 0 for grade in grades.values())
        ),
        summed=frozenset(summed),
    )


def parse_measure(name: str) -> Any:
    """Return the ir-measures object that `name` denotes; `ValueError` if there is none."""
    import ir_measures

    try:
        measure = ir_measures.parse_measure(name)
        measure.validate_params()
    except (NameError, ValueError, AssertionError, TypeError) as error:
        raise ValueError(
            f"unknown measure {name!r} ({error}); write a name of ir-measures with its cutoff, "
            "for example nDCG@10, RR@10, R@100, AP, P(rel=2)@5"
        ) from None
    if not ir_measures.DefaultPipeline.supports(measure):
        raise ValueError(
            f"no installed package computes {name!r}; choose another measure or cutoff"
        )
    return measure


def check_overlap(
    qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]]
) -> None:
    """Raise `ValueError`, naming both sides' first ids, where run and qrels share no id."""
    if not qrels:
        raise ValueError("the qrels hold no query")
    if not run:
        raise ValueError("the run holds no query; an empty run cannot be evaluated")
    if qrels.keys().isdisjoint(run):
        raise ValueError(
            "no query of the run is in the qrels: "
            f"the run starts with {_first(run)}, the qrels with {_first(qrels)}; "
            "are they of the same collection?"
        )
    judged = {passage_id for grades in qrels.values() for passage_id in grades}
    if all(judged.isdisjoint(scores) for scores in run.values()) and any(run.values()):
        raise ValueError(
            "no passage of the run is in the qrels: "
            f"the run starts with {_first(p for scores in run.values() for p in scores)}, "
            f"the qrels with {_first(p for grades in qrels.values() for p in grades)}; "
            "are the ids of the same collection and the same kind?"
        )


def _check_values(
    qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]]
) -> None:
    for query_id, grades in qrels.items():
        scores = run.get(query_id, {})
        finite = np.isfinite(np.fromiter(scores.values(), np.float64, len(scores)))
        if not finite.all():
            passage_id = list(scores)[int(np.argmin(finite))]
            raise ValueError(
                f"the score {scores[passage_id]} of passage {passage_id!r}, query {query_id!r}, is "
                "not a finite number and cannot be ranked"
            )
        ids = "".join((query_id, *grades, *scores))
        halves = not ids.isascii() and any("\ud800" <= c <= "\udfff" for c in ids)
        if "\0" in ids or halves:
            raise ValueError(
                f"an id of query {query_id!r} has a control character or half of a surrogate pair; "
                "ids are words of visible text"
            )


def trec_eval_order(scores: Mapping[str, float]) -> list[str]:
    """Return passage ids as trec_eval ranks them: float32 score, then id, both descending."""
    ids = list(scores)
    # A score beyond float32 becomes infinite there too, and so ties with its like.
    with np.errstate(over="ignore"):
        keys = np.fromiter(scores.values(), np.float64, len(ids)).astype(np.float32)
    order = np.argsort(-keys, kind="stable")
    ranked = keys[order]
    if not (ranked[1:] == ranked[:-1]).any():
        return [ids[row] for row in order.tolist()]
    rows = sorted(range(len(ids)), key=ids.__getitem__, reverse=True)
    values = keys.tolist()
    rows.sort(key=values.__getitem__, reverse=True)
    return [ids[row] for row in rows]


def _values(
    qrels: dict[str, Mapping[str, int]],
    run: Mapping[str, Mapping[str, float]],
    measures: Mapping[Any, object],
) -> Iterator[Any]:
    """Yield ir-measures' `Metric`s of a part of the queries.

    The providers break ties in different ways (`RR@10` and `Judged@10` by ascending id), so each
    gets the run in trec_eval's order with scores that have no ties left. Those two sort every
    list in Python and read its top alone, so they get the top alone.
    """
    import ir_measures

    top: list[Any] = []
    whole: list[Any] = []
    for measure in measures:
        cut = measure.NAME in ("RR", "Judged") and "cutoff" in measure.params
        (top if cut else whole).append(measure)
    ranked = {query_id: trec_eval_order(run[query_id]) for query_id in qrels if run.get(query_id)}
    if whole:
        yield from ir_measures.iter_calc(whole, qrels, _by_rank(ranked, None))
    if top:
        depth = max(measure["cutoff"] for measure in top)
        yield from ir_measures.iter_calc(top, qrels, _by_rank(ranked, depth))


def _by_rank(ranked: Mapping[str, list[str]], depth: int | None) -> dict[str, dict[str, float]]:
    return {
        query_id: {passage_id: -float(rank) for rank, passage_id in enumerate(ids[:depth])}
        for query_id, ids in ranked.items()
    }


def _first(ids: Any, count: int = 3) -> str:
    shown = [repr(identifier) for identifier, _ in zip(ids, range(count), strict=False)]
    return ", ".join(shown)
