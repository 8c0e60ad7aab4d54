"""A report that opens offline: one HTML file with tables, plots and where it all came from.

Enters: a comparison, and optionally an agreement study and stage latencies. Leaves: HTML.

    html = render_report("My systems", comparison, provenance=provenance(files))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.agreement.results import Study
from eval.files.trec import Qrels, Run
from eval.measures.ranking import evaluate
from eval.reporting.page import page_template
from eval.reporting.plots import (
    MOST_CURVES,
    differences_plot,
    latency_plot,
    matrix_plot,
    means_plot,
    precision_recall_plot,
    rankings_plot,
)
from eval.reporting.tables import NOT_RUN
from eval.statistics.comparison import Comparison

TEMPLATE = Path(__file__).with_name("report.html.jinja")
RECALL_LEVELS = tuple(level / 10 for level in range(11))


@dataclass(frozen=True)
class Latency:
    """Median and 95th percentile of one stage, in milliseconds a query."""

    stage: str
    p50_ms: float
    p95_ms: float


def precision_recall_curves(
    qrels: Qrels, runs: Mapping[str, Run | None], names: Sequence[str]
) -> dict[str, list[float]]:
    """Return mean interpolated precision at recall 0, .1, ... 1 of the runs of `names`."""
    measures = [f"IPrec@{level:.1f}" for level in RECALL_LEVELS]
    curves = {}
    for name in names:
        run = runs[name]
        if run is not None:
            curves[name] = list(evaluate(qrels, run, measures).means.values())
    return curves


def render_report(
    title: str,
    comparison: Comparison,
    *,
    curves: Mapping[str, Sequence[float]] | None = None,
    study: Study | None = None,
    latencies: Sequence[Latency] = (),
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Return the page. It loads nothing: styles and plots are inside."""
    return page_template(TEMPLATE).render(
        title=title,
        comparison=comparison,
        not_run=NOT_RUN,
        means={measure: _means(comparison, measure) for measure in comparison.measures},
        tables={measure: _ranked(comparison, measure) for measure in comparison.measures},
        differences=_differences(comparison),
        pairs={measure: _pairs(comparison, measure) for measure in comparison.pairs},
        curves=precision_recall_plot(curves, RECALL_LEVELS) if curves else "",
        most_curves=MOST_CURVES,
        study=study,
        agreement=matrix_plot(study.raters, study.kappa_matrix) if study else "",
        rankings=_rankings(study) if study and study.systems else "",
        latency=latency_plot(
            [stage.stage for stage in latencies],
            [stage.p50_ms for stage in latencies],
            [stage.p95_ms for stage in latencies],
        )
        if latencies
        else "",
        latencies=latencies,
        provenance=provenance or {},
    )


def best_systems(comparison: Comparison, count: int = MOST_CURVES) -> list[str]:
    """Return the baseline and the best others on the first measure, `count` in all."""
    ranked = _ranked(comparison, comparison.measures[0])
    others = [name for name in ranked if name != comparison.baseline]
    first = [comparison.baseline] if comparison.baseline else []
    return [*first, *others[: count - len(first)]]


def _ranked(comparison: Comparison, measure: str) -> list[str]:
    return sorted(
        comparison.scores, key=lambda name: (-comparison.scores[name][measure].mean, name)
    )


def _means(comparison: Comparison, measure: str) -> str:
    scores = {name: measures[measure] for name, measures in comparison.scores.items()}
    return means_plot(
        measure,
        list(scores),
        [score.mean for score in scores.values()],
        [score.low for score in scores.values()],
        [score.high for score in scores.values()],
    )


def _differences(comparison: Comparison) -> list[tuple[str, str]]:
    """Return (system, plot) on the first measure, for the systems that have a curve, too."""
    measure, baseline = comparison.measures[0], comparison.baseline
    if baseline is None:
        return []
    base = comparison.evaluations[baseline].values[measure]
    return [
        (
            name,
            differences_plot(
                name, baseline, measure, comparison.evaluations[name].values[measure] - base
            ),
        )
        for name in best_systems(comparison)
        if name != baseline
    ]


def _pairs(comparison: Comparison, measure: str) -> dict[str, int]:
    p_values = comparison.pairs[measure]
    upper = np.triu_indices(len(p_values), 1)
    return {
        "differ": int((p_values[upper] <= comparison.settings.alpha).sum()),
        "pairs": len(upper[0]),
    }


def _rankings(study: Study) -> str:
    first = next(iter(study.systems.values()))
    return rankings_plot(
        study.settings.measure,
        list(first.human_means.values()),
        {name: list(systems.judge_means.values()) for name, systems in study.systems.items()},
    )
