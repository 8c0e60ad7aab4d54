"""Several systems on the same queries: means, intervals, tests against a baseline, all pairs.

Enters: qrels, runs by name (None for a system that failed), measure names. Leaves: a `Comparison`.

    python -c "from eval.statistics.comparison import compare; \
print(compare({'q': {'a': 1}}, {'x': {'q': {'a': 1.}}, 'y': None}, ['AP']).as_json())"
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.files.trec import Qrels, Run
from eval.measures.ranking import DEFAULT_MEASURES, Evaluation, evaluate
from eval.statistics.intervals import bootstrap_intervals
from eval.statistics.significance import (
    Outcomes,
    effect_sizes,
    holm,
    outcomes,
    paired_t_test,
    permutation_test,
)
from eval.statistics.tukey import randomised_tukey


@dataclass(frozen=True)
class Settings:
    """How much is resampled, and from which seed; saved beside every result."""

    resamples: int = 10_000
    permutations: int = 10_000
    confidence: float = 0.95
    alpha: float = 0.05
    seed: int = 0
    worst_queries: int = 5


@dataclass(frozen=True)
class Versus:
    """One system against the baseline on one measure; NaN where a test does not exist.

    `difference` is system minus baseline with its interval; the Holm values are adjusted for all
    systems compared on this measure; `worst` holds (query id, difference), the most harmed first.
    """

    difference: float
    low: float
    high: float
    effect_size: float
    p_t: float
    p_t_holm: float
    p_permutation: float
    p_permutation_holm: float
    outcomes: Outcomes
    worst: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Score:
    """Mean of one system on one measure, with its bootstrap interval."""

    mean: float
    low: float
    high: float
    versus: Versus | None


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    `scores[system][measure]`; a system that failed has no entry there and stands in `not_run`.
    `pairs[measure]` are randomised Tukey p-values [S, S] in the order of `evaluations`.
    """

    query_ids: tuple[str, ...]
    measures: tuple[str, ...]
    baseline: str | None
    evaluations: dict[str, Evaluation]
    not_run: tuple[str, ...]
    scores: dict[str, dict[str, Score]]
    pairs: dict[str, np.ndarray]
    settings: Settings

    def significant(self, system: str, measure: str) -> bool:
        """Whether the system differs from the baseline (permutation test, Holm) at alpha."""
        score = self.scores.get(system, {}).get(measure)
        if score is None or score.versus is None:
            return False
        return score.versus.p_permutation_holm <= self.settings.alpha

    def as_json(self) -> dict[str, Any]:
        """Return the report of docs/evaluation.md; a value that does not exist is null."""
        names = list(self.evaluations)
        return {
            "queries": len(self.query_ids),
            "measures": list(self.measures),
            "baseline": self.baseline,
            "settings": vars(self.settings),
            "systems": {
                name: {
                    "status": "ok",
                    "missing": list(evaluation.missing),
                    "ignored": len(evaluation.ignored),
                    "measures": {
                        measure: _score_json(score) for measure, score in self.scores[name].items()
                    },
                }
                for name, evaluation in self.evaluations.items()
            }
            | {name: {"status": "not run"} for name in self.not_run},
            "pairs": {
                measure: [
                    {"a": names[a], "b": names[b], "p_tukey": float(p_values[a, b])}
                    for a in range(len(names))
                    for b in range(a + 1, len(names))
                ]
                for measure, p_values in self.pairs.items()
            },
        }


def compare(
    qrels: Qrels,
    runs: Mapping[str, Run | None],
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    baseline: str | None = None,
    all_pairs: bool = True,
    settings: Settings | None = None,
) -> Comparison:
    """Evaluate and compare `runs` on every query of `qrels`.

    The baseline is the first system that ran unless named. Raises `ValueError` where no system
    ran, the baseline did not run, or a run matches no id of the qrels (naming the run).
    """
    settings = settings or Settings()
    evaluations: dict[str, Evaluation] = {}
    for name, run in runs.items():
        if run is None:
            continue
        try:
            evaluations[name] = evaluate(qrels, run, measures)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    not_run = tuple(name for name in runs if name not in evaluations)
    if not evaluations:
        raise ValueError("no system ran: there is nothing to compare")
    if baseline is not None and baseline not in evaluations:
        state = "did not run" if baseline in not_run else "is none of the systems"
        raise ValueError(f"the baseline {baseline!r} {state}; those that ran: {list(evaluations)}")
    if baseline is None:
        baseline = next(iter(evaluations))

    names = list(evaluations)
    query_ids = evaluations[names[0]].query_ids
    scores: dict[str, dict[str, Score]] = {name: {} for name in names}
    pairs: dict[str, np.ndarray] = {}
    for measure in evaluations[baseline].measures:
        if measure in evaluations[baseline].summed:
            raise ValueError(f"{measure} counts instead of averaging and cannot be compared")
        values = np.column_stack([evaluations[name].values[measure] for name in names])
        ends = bootstrap_intervals(
            values,
            resamples=settings.resamples,
            confidence=settings.confidence,
            seed=settings.seed,
        )
        versus = _versus(values, names, names.index(baseline), query_ids, settings)
        for column, name in enumerate(names):
            scores[name][measure] = Score(
                evaluations[name].means[measure],
                float(ends.low[column]),
                float(ends.high[column]),
                versus.get(name),
            )
        if all_pairs and len(names) > 1:
            pairs[measure] = randomised_tukey(
                values, permutations=settings.permutations, seed=settings.seed
            )
    return Comparison(
        query_ids,
        evaluations[baseline].measures,
        baseline,
        evaluations,
        not_run,
        scores,
        pairs,
        settings,
    )


def _versus(
    values: np.ndarray,
    names: Sequence[str],
    baseline: int,
    query_ids: Sequence[str],
    settings: Settings,
) -> dict[str, Versus]:
    """Compare every column of `values` [Q, S] but the baseline's with the baseline's."""
    others = [column for column in range(len(names)) if column != baseline]
    if not others:
        return {}
    differences = values[:, others] - values[:, [baseline]]
    ends = bootstrap_intervals(
        differences,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    p_t = paired_t_test(differences)
    p_permutation = permutation_test(
        differences, permutations=settings.permutations, seed=settings.seed
    )
    p_t_holm, p_permutation_holm = holm(p_t), holm(p_permutation)
    sizes = effect_sizes(differences)
    result = {}
    for place, column in enumerate(others):
        difference = differences[:, place]
        worst = sorted(range(len(difference)), key=lambda row: (difference[row], query_ids[row]))
        result[names[column]] = Versus(
            difference=float(difference.mean()),
            low=float(ends.low[place]),
            high=float(ends.high[place]),
            effect_size=float(sizes[place]),
            p_t=float(p_t[place]),
            p_t_holm=float(p_t_holm[place]),
            p_permutation=float(p_permutation[place]),
            p_permutation_holm=float(p_permutation_holm[place]),
            outcomes=outcomes(difference),
            worst=tuple(
                (query_ids[row], float(difference[row]))
                for row in worst[: settings.worst_queries]
                if difference[row] < 0
            ),
        )
    return result


def _score_json(score: Score) -> dict[str, Any]:
    report: dict[str, Any] = {"mean": score.mean, "low": score.low, "high": score.high}
    if score.versus is not None:
        versus = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in vars(score.versus).items()
            if name not in ("outcomes", "worst")
        }
        versus |= score.versus.outcomes._asdict()
        versus["worst"] = [
            {"query": query_id, "difference": value} for query_id, value in score.versus.worst
        ]
        report["versus_baseline"] = versus
    return report
