"""What a pipeline's evaluation leaves on disk: TREC runs, `result.json`, `report.html`.

Enters: a `PipelineReport`. Leaves: a folder; every file in it is whole or not there.

    write_report(Path("out"), report)
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.atomic_file import write_text
from eval.data import write_run
from eval.pipeline import PipelineReport, StageReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPLATE = "pipeline_report.html.jinja"
_COLOURS = ("#4878a8", "#d08a3c", "#4f9d69")


def write_report(folder: Path, report: PipelineReport, notes: Sequence[str] = ()) -> None:
    """Write runs, result and report into `folder`; `notes` are paragraphs for the report's head."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    for stage in report.stages:
        write_run(folder / "runs" / f"{stage.name}.trec", stage.run, f"blockseek-{stage.name}")
    text = json.dumps(report.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "result.json", f"{text}\n")
    write_text(folder / "report.html", render_html(report, notes))


def render_html(report: PipelineReport, notes: Sequence[str] = ()) -> str:
    """The report as one HTML page that opens offline."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    header, rows = report.rows()
    first, last = report.stages[0], report.stages[-1]
    return environment.get_template(TEMPLATE).render(
        report=report,
        notes=notes,
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
    figure, axes = _figure()
    measures = stages[0].evaluation.measures
    width = 0.8 / len(stages)
    for number, stage in enumerate(stages):
        means = np.array(list(stage.evaluation.means.values()))
        places = np.arange(len(measures)) + number * width
        errors = np.abs(np.stack(stage.intervals) - means)
        colour = _COLOURS[number % len(_COLOURS)]
        axes.bar(places, means, width * 0.92, yerr=errors, label=stage.name, color=colour)
    axes.set_xticks(np.arange(len(measures)) + width * (len(stages) - 1) / 2, measures)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False)
    return _svg(figure)


def _latency_plot(stages: Sequence[StageReport]) -> str:
    figure, axes = _figure()
    names = [stage.name for stage in stages]
    axes.boxplot([stage.latency_ms for stage in stages], tick_labels=names, whis=(5, 95))
    axes.set_yscale("log")
    axes.set_ylabel("milliseconds a query")
    return _svg(figure)


def _difference_plot(first: StageReport, last: StageReport) -> str:
    """Per query, what the last stage adds to the first on the first measure."""
    figure, axes = _figure()
    name = first.evaluation.measures[0]
    gains = np.sort(last.evaluation.values[name] - first.evaluation.values[name])[::-1]
    colours = [_COLOURS[2] if gain > 0 else _COLOURS[1] for gain in gains]
    axes.bar(np.arange(len(gains)), gains, 1.0, color=colours)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel("queries, the most helped first")
    axes.set_ylabel(f"{last.name} minus {first.name}, {name}")
    return _svg(figure)


def _figure() -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: "Figure") -> str:
    """The figure as an <svg> element; the same bytes for the same figure."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "blockseek", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]
