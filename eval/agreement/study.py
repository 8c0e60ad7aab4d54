"""The whole agreement study of one collection: labels of each judge, and systems under them.

Enters: human qrels, qrels of the judges, runs. Leaves: a `Study`, which writes itself as JSON.

    python -c "from eval.agreement.study import study; \
q = {'q': {'a': 1, 'b': 0}}; print(study(q, {'same': q}).as_json()['judges']['same']['labels'])"
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.agreement.labels import (
    alpha_of_raters,
    binarised,
    cohen_kappa,
    confusion_matrix,
    exact_agreement,
    ordinal_alpha,
)
from eval.agreement.preservation import preservation
from eval.agreement.rankings import (
    kendall_tau_b,
    rank_biased_overlap,
    spearman,
    tau_ap,
    top_k_tau,
)
from eval.agreement.results import (
    HUMAN,
    Coefficient,
    LabelAgreement,
    Settings,
    Study,
    SystemAgreement,
)
from eval.files.trec import Qrels, Run
from eval.measures.ranking import evaluate
from eval.statistics.intervals import bootstrap_counts


def study(
    qrels: Qrels,
    judges: Mapping[str, Qrels | None],
    runs: Mapping[str, Run | None] | None = None,
    settings: Settings | None = None,
) -> Study:
    """Compare every judge with the human labels, pair by pair and system by system.

    Raises `ValueError` where no judge gave labels, and where a judge shares no pair with the
    human, naming both sides' first ids.
    """
    settings = settings or Settings()
    present = {name: labels for name, labels in judges.items() if labels}
    if not present:
        raise ValueError("no judge gave any label: there is nothing to agree with")
    if HUMAN in present:
        raise ValueError(f"a judge is named {HUMAN!r}, which is the qrels' name; rename its file")
    if settings.common_pairs:
        qrels, present = _common(qrels, present)
    low, high = settings.scale or (
        0,
        max(1, max(grade for grades in qrels.values() for grade in grades.values())),
    )
    if low >= high:
        raise ValueError(f"the scale {low}..{high} has no two grades")

    labels = {
        name: _compare_labels(name, qrels, judge, low, high, settings)
        for name, judge in present.items()
    }
    systems_run = {name: run for name, run in (runs or {}).items() if run is not None}
    if len(systems_run) == 1:
        raise ValueError("one run cannot be ranked; give at least two runs, or none")
    systems = {
        name: _compare_systems(name, qrels, judge, systems_run, settings)
        for name, judge in present.items()
        if systems_run
    }
    raters = (HUMAN, *present)
    table = _label_table(qrels, [qrels, *present.values()], low, high)
    size = high - low + 1
    matrix = np.ones((len(raters), len(raters)))
    for a in range(len(raters)):
        for b in range(a):
            both = (table[a] >= 0) & (table[b] >= 0)
            counts = confusion_matrix(table[a][both], table[b][both], size)
            matrix[a, b] = matrix[b, a] = cohen_kappa(counts, "quadratic")
    return Study(
        grades=tuple(range(low, high + 1)),
        labels=labels,
        systems=systems,
        raters=raters,
        kappa_matrix=matrix,
        alpha_of_all=alpha_of_raters(list(table), size),
        not_run=tuple(name for name in judges if name not in present)
        + tuple(name for name in runs or {} if name not in systems_run),
        settings=settings,
    )


def _common(qrels: Qrels, judges: Mapping[str, Qrels]) -> tuple[Qrels, dict[str, Qrels]]:
    """Return all labels on the pairs that the human and every judge labelled."""
    shared = {
        query_id: [
            passage_id
            for passage_id in grades
            if all(passage_id in judge.get(query_id, {}) for judge in judges.values())
        ]
        for query_id, grades in qrels.items()
    }
    shared = {query_id: ids for query_id, ids in shared.items() if ids}
    if not shared:
        raise ValueError("no pair is labelled by the human and by every judge")

    def cut(labels: Qrels) -> Qrels:
        return {q: {passage: labels[q][passage] for passage in ids} for q, ids in shared.items()}

    return cut(qrels), {name: cut(judge) for name, judge in judges.items()}


def _label_table(qrels: Qrels, raters: Sequence[Qrels], low: int, high: int) -> np.ndarray:
    """Return grade - low of every human pair by rater, clipped; -1 where a rater gave none."""
    return np.array(
        [
            [
                _clip(rater.get(query_id, {}).get(passage_id), low, high)
                for query_id, grades in qrels.items()
                for passage_id in grades
            ]
            for rater in raters
        ]
    )


def _clip(grade: int | None, low: int, high: int) -> int:
    return -1 if grade is None else min(max(grade, low), high) - low


def _compare_labels(
    name: str, qrels: Qrels, judge: Qrels, low: int, high: int, settings: Settings
) -> LabelAgreement:
    size = high - low + 1
    human_grades: list[int] = []
    judge_grades: list[int] = []
    per_query = []
    for query_id, grades in qrels.items():
        shared = [
            (grade, judge[query_id][passage_id])
            for passage_id, grade in grades.items()
            if query_id in judge and passage_id in judge[query_id]
        ]
        if shared:
            first, second = zip(*shared, strict=True)
            human_grades += first
            judge_grades += second
            per_query.append(
                confusion_matrix(
                    np.clip(first, low, high) - low, np.clip(second, low, high) - low, size
                )
            )
    if not human_grades:
        raise ValueError(
            f"{name} shares no pair with the human labels: it starts with {_first_pair(judge)}, "
            f"they start with {_first_pair(qrels)} (query, passage)"
        )
    raw = np.array([human_grades, judge_grades])
    human, labels = np.clip(raw, low, high) - low
    by_query = np.stack(per_query)
    confusion = by_query.sum(axis=0)
    resampled = np.concatenate(
        [
            np.tensordot(counts, by_query, axes=1)
            for counts in bootstrap_counts(len(by_query), settings.resamples, settings.seed)
        ]
    )
    tail = (1 - settings.confidence) / 2

    def coefficient(function: Any) -> Coefficient:
        values = function(resampled)
        values = values[np.isfinite(values)]
        ends = np.quantile(values, [tail, 1 - tail]) if len(values) else (math.nan, math.nan)
        return Coefficient(float(function(confusion)), float(ends[0]), float(ends[1]))

    totals = confusion.sum(axis=1)
    means = np.divide(
        confusion @ np.arange(size), totals, out=np.full(size, np.nan), where=totals > 0
    )
    judged = sum(map(len, judge.values()))
    return LabelAgreement(
        pairs=len(human),
        queries=len(by_query),
        human_only=sum(map(len, qrels.values())) - len(human),
        judge_only=judged - len(human),
        clipped=tuple(((raw < low) | (raw > high)).sum(axis=1).tolist()),
        confusion=confusion,
        exact=coefficient(exact_agreement),
        kappa=coefficient(cohen_kappa),
        kappa_quadratic=coefficient(lambda counts: cohen_kappa(counts, "quadratic")),
        kappa_at_cut={
            low + cut: coefficient(lambda counts, cut=cut: cohen_kappa(binarised(counts, cut)))
            for cut in range(1, size)
        },
        alpha_ordinal=coefficient(ordinal_alpha),
        tau_b=kendall_tau_b(human, labels),
        spearman=spearman(human, labels),
        bias=tuple((means - np.arange(size)).tolist()),
        mean_bias=float((labels - human).mean()),
    )


def _compare_systems(
    name: str, qrels: Qrels, judge: Qrels, runs: Mapping[str, Run], settings: Settings
) -> SystemAgreement:
    """Evaluate all runs under both sets of labels, on the queries that both have."""
    shared = [query_id for query_id in qrels if judge.get(query_id)]
    values = []
    for labels in (qrels, judge):
        matched = {query_id: labels[query_id] for query_id in shared}
        columns = []
        for run_name, run in runs.items():
            try:
                columns.append(evaluate(matched, run, [settings.measure]).values[settings.measure])
            except ValueError as error:
                raise ValueError(f"{run_name} under {name}: {error}") from None
        values.append(np.column_stack(columns))
    human, judged = values
    means, judge_means = human.mean(axis=0), judged.mean(axis=0)
    return SystemAgreement(
        queries=len(shared),
        left_out_queries=tuple(query_id for query_id in qrels if not judge.get(query_id)),
        human_means=dict(zip(runs, means.tolist(), strict=True)),
        judge_means=dict(zip(runs, judge_means.tolist(), strict=True)),
        tau_b=kendall_tau_b(means, judge_means),
        tau_ap=tau_ap(means, judge_means),
        spearman=spearman(means, judge_means),
        rbo=rank_biased_overlap(means, judge_means, settings.rbo_p),
        top_k_tau=top_k_tau(means, judge_means, settings.top),
        preservation=preservation(
            human,
            judged,
            alpha=settings.alpha,
            permutations=settings.permutations,
            seed=settings.seed,
        ),
    )


def _first_pair(labels: Qrels) -> str:
    query_id, grades = next(iter(labels.items()))
    return f"({query_id!r}, {next(iter(grades), None)!r})"
