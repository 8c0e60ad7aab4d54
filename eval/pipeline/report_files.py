"""What a pipeline's evaluation leaves on disk: TREC runs, `result.json`, `report.html`.

Enters: a `PipelineReport`. Leaves: a folder; every file in it is whole or not there.

    write_report(Path("out"), report)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.files.result_folder import write_result
from eval.pipeline.stages import PipelineReport, StageReport
from eval.reporting.page import page_template
from eval.reporting.plots import differences_plot, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE = Path(__file__).with_name("report.html.jinja")
_HEIGHT = 3.4
_COLOURS = ("#4878a8", "#d08a3c", "#4f9d69")


def write_report(folder: Path, report: PipelineReport, notes: Sequence[str] = ()) -> None:
    """Replace the result in `folder`; `notes` are paragraphs for the report's head.

    Raises `ValueError` where that would replace a file that is no result of ours.
    """
    runs = {stage.name: stage.run for stage in report.stages}
    write_result(folder, runs, report.as_json(), render_html(report, notes))


def render_html(report: PipelineReport, notes: Sequence[str] = ()) -> str:
    """The report as one HTML page that opens offline."""
    header, rows = report.rows()
    first, last = report.stages[0], report.stages[-1]
    return page_template(TEMPLATE).render(
        report=report,
        notes=[*report.notes, *notes],
        header=header,
        rows=[[cell if isinstance(cell, str) else f"{cell:.4f}" for cell in row] for row in rows],
        intervals=_interval_rows(report.stages),
        quality=_quality_plot(report.stages),
        latency=_latency_plot(report.stages),
        differences=_difference_plot(first, last) if last is not first else "",
        first=first.name,
        last=last.name,
        measure=report.settings.measures[0],
    )


def _interval_rows(stages: Sequence[StageReport]) -> list[list[str]]:
    return [
        [stage.name, name, f"{mean:.4f}", f"{low:.4f} to {high:.4f}"]
        for stage in stages
        for (name, mean), low, high in zip(
            stage.evaluation.means.items(), *stage.intervals, strict=True
        )
    ]


def _quality_plot(stages: Sequence[StageReport]) -> str:
    measures = stages[0].evaluation.measures
    width = 0.8 / len(stages)

    def draw(axes: "Axes") -> None:
        for number, stage in enumerate(stages):
            means = np.array(list(stage.evaluation.means.values()))
            places = np.arange(len(measures)) + number * width
            errors = np.abs(np.stack(stage.intervals) - means)
            colour = _COLOURS[number % len(_COLOURS)]
            axes.bar(places, means, width * 0.92, yerr=errors, label=stage.name, color=colour)
        axes.set_xticks(np.arange(len(measures)) + width * (len(stages) - 1) / 2, measures)
        axes.set_ylim(0, 1)
        axes.legend(frameon=False)

    return svg(draw, "quality", height=_HEIGHT)


def _latency_plot(stages: Sequence[StageReport]) -> str:
    def draw(axes: "Axes") -> None:
        names = [stage.name for stage in stages]
        axes.boxplot([stage.latency_ms for stage in stages], tick_labels=names, whis=(5, 95))
        axes.set_yscale("log")
        axes.set_ylabel("milliseconds a query")

    return svg(draw, "latency", height=_HEIGHT)


def _difference_plot(first: StageReport, last: StageReport) -> str:
    """Per query, what the last stage adds to the first on the first measure."""
    name = first.evaluation.measures[0]
    gains = last.evaluation.values[name] - first.evaluation.values[name]
    return differences_plot(last.name, first.name, name, gains)
