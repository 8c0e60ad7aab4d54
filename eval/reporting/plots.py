"""The plots of a report as SVG that stands inside an HTML page.

Enters: numbers and names. Leaves: one `<svg>` element; equal input gives equal bytes.

    python -c "from eval.reporting.plots import means_plot; \
print(means_plot('AP', ['a'], [.5], [.4], [.6])[:4])"
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#4878a8", "#d08a3c", "#888888"
# More curves than this cannot be told apart.
MOST_CURVES = 8


def means_plot(
    measure: str,
    names: Sequence[str],
    means: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
) -> str:
    """Dots with their intervals, the best system on top."""

    def draw(axes: "Axes") -> None:
        order = sorted(range(len(names)), key=lambda row: (means[row], names[row]))
        rows = np.arange(len(names))
        values = np.array(means)[order]
        ends = [values - np.array(lows)[order], np.array(highs)[order] - values]
        axes.errorbar(values, rows, xerr=np.maximum(ends, 0), fmt="o", color=BLUE, capsize=3)
        axes.set_yticks(rows, [_label(names[row]) for row in order])
        axes.set_xlabel(_label(measure))
        axes.grid(axis="x", alpha=0.3)

    return svg(draw, f"means {measure}", height=0.8 + 0.28 * len(names))


def differences_plot(system: str, baseline: str, measure: str, differences: np.ndarray) -> str:
    """One bar per query, the greatest gain first: what the system adds to the baseline."""

    def draw(axes: "Axes") -> None:
        ordered = np.sort(differences)[::-1]
        colours = [BLUE if value >= 0 else ORANGE for value in ordered]
        axes.bar(np.arange(len(ordered)), ordered, color=colours, width=1.0)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set_xlabel("queries, ordered by difference")
        axes.set_ylabel(_label(f"{measure}: {system} − {baseline}"))

    return svg(draw, f"differences {system} {measure}", height=3.2)


def precision_recall_plot(curves: Mapping[str, Sequence[float]], levels: Sequence[float]) -> str:
    """Mean interpolated precision at recall levels, one line per system."""

    def draw(axes: "Axes") -> None:
        for name, precision in curves.items():
            axes.plot(levels, precision, marker=".", label=_label(name))
        axes.set_xlabel("recall")
        axes.set_ylabel("interpolated precision")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="upper right")

    return svg(draw, "precision recall", height=4.2)


def matrix_plot(names: Sequence[str], values: np.ndarray) -> str:
    """A square of coefficients in [-1, 1], each written into its cell."""

    def draw(axes: "Axes") -> None:
        # Cells as shapes: an image would be a bitmap inside the page.
        axes.pcolormesh(values, vmin=-1, vmax=1, cmap="RdBu", edgecolors="white")
        axes.set_aspect("equal")
        axes.invert_yaxis()
        centres = np.arange(len(names)) + 0.5
        # Long names would turn the columns' labels into most of the plot: numbers stand for them.
        axes.set_xticks(centres, [str(number) for number in range(1, len(names) + 1)])
        axes.set_yticks(
            centres, [_label(f"{name}  {number}") for number, name in enumerate(names, start=1)]
        )
        for row, column in np.ndindex(values.shape):
            value = values[row, column]
            text = "–" if np.isnan(value) else f"{value:.2f}"
            colour = "white" if abs(value) > 0.6 else "black"
            axes.text(
                column + 0.5,
                row + 0.5,
                text,
                ha="center",
                va="center",
                fontsize="small",
                color=colour,
            )

    return svg(draw, "agreement", height=2.2 + 0.45 * len(names))


def rankings_plot(
    measure: str, human: Sequence[float], judges: Mapping[str, Sequence[float]]
) -> str:
    """Each system's mean under human labels against its mean under each judge's."""

    def draw(axes: "Axes") -> None:
        for name, values in judges.items():
            axes.plot(human, values, ".", label=_label(name))
        ends = [0, max(1e-9, *human, *(value for values in judges.values() for value in values))]
        axes.plot(ends, ends, color=GREY, linewidth=0.8)
        axes.set_xlabel(_label(f"{measure}, human labels"))
        axes.set_ylabel(_label(f"{measure}, judge's labels"))
        axes.legend(fontsize="x-small")

    return svg(draw, "rankings", height=4.6)


def latency_plot(names: Sequence[str], p50: Sequence[float], p95: Sequence[float]) -> str:
    """Median and 95th percentile of each stage, in milliseconds."""

    def draw(axes: "Axes") -> None:
        rows = np.arange(len(names))[::-1]
        axes.barh(rows + 0.2, p50, 0.38, color=BLUE, label="p50")
        axes.barh(rows - 0.2, p95, 0.38, color=ORANGE, label="p95")
        axes.set_yticks(rows, [_label(name) for name in names])
        axes.set_xlabel("milliseconds a query")
        axes.legend(fontsize="small")

    return svg(draw, "latency", height=1.2 + 0.5 * len(names))


def _label(text: str) -> str:
    # Between two dollar signs matplotlib reads formulas.
    return text.replace("$", r"\$")


def svg(draw: Callable[["Axes"], Any], salt: str, height: float, width: float = 7.0) -> str:
    """Return what `draw` puts on the axes as one <svg> element; sizes are in inches.

    `salt` must differ between the plots of one page.
    """
    # The object interface: pyplot would keep the figure and ask for a screen.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Ids of several plots meet in one page: each has its own salt, which also makes them repeat.
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
