"""The picture of a filter report: PR curves, reliability, and how many hits stay.

Enters: labelled hits and the methods of a report. Leaves: an SVG file.

    plot_filters(labelled, methods, "filter.svg", title="scifact", labels="qrels")
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.adapter.hits import LabelledHits
from retrieval.adapter.measures import calibration_bins, cut_counts
from retrieval.filter_report import Method


def plot_filters(
    labelled: LabelledHits, methods: Sequence[Method], path: Path, *, title: str, labels: str
) -> None:
    """Draw three panels into an SVG; pseudo-labels are named in the title."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    pseudo = f"  -  PSEUDO-LABELS ({labels})" if labels.startswith("pseudo:") else ""
    # A fixed salt and no date: the same report gives the same bytes.
    with mpl.rc_context({"svg.hashsalt": "filter", "font.size": 9}):
        figure, panels = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
        figure.suptitle(f"{title}{pseudo}")
        _curves(panels[0], labelled, methods)
        _reliability(panels[1], labelled, methods)
        _kept(panels[2], labelled, methods)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        figure.savefig(temporary, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    temporary.replace(path)


def _curves(axes: Any, labelled: LabelledHits, methods: Sequence[Method]) -> None:
    """Precision over recall for every threshold, a dot where the method cuts."""
    judged = labelled.judged
    relevant = labelled.labels[judged] == 1
    for method in methods:
        values = method.values[judged]
        order = np.argsort(-values, kind="stable")
        last = np.append(np.diff(values[order]) != 0, True)
        true = np.cumsum(relevant[order])[last]
        seen = (np.arange(len(order)) + 1)[last]
        (line,) = axes.plot(true / relevant.sum(), true / seen, label=method.name, linewidth=1.2)
        stayed = method.kept[judged]
        if stayed.any():
            hit = (stayed & relevant).sum()
            axes.plot(
                hit / relevant.sum(), hit / stayed.sum(), "o", color=line.get_color(), markersize=5
            )
    axes.axhline(relevant.mean(), color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="recall of relevant hits", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axes.set_title("precision and recall (dot: its threshold; dotted: keep all)", fontsize=9)
    axes.legend(fontsize=8)


def _reliability(axes: Any, labelled: LabelledHits, methods: Sequence[Method]) -> None:
    """Share relevant over stated probability, dot size by the hits of the bin."""
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    for number, method in enumerate(methods):
        if method.probabilities is not None:
            bins = calibration_bins(method.probabilities, labelled)
            bins = bins[bins[:, 2] > 0]
            (line,) = axes.plot(bins[:, 0], bins[:, 1], color=f"C{number}", label=method.name)
            axes.scatter(
                bins[:, 0],
                bins[:, 1],
                s=8 + 150 * bins[:, 2] / bins[:, 2].max(),
                color=line.get_color(),
            )
    axes.set(xlabel="stated probability", ylabel="share relevant", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("reliability", fontsize=9)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _kept(axes: Any, labelled: LabelledHits, methods: Sequence[Method]) -> None:
    """Share of queries that keep at most k hits."""
    longest = int(labelled.hits.counts.max())
    for method in methods:
        counts = cut_counts(method.kept, labelled).kept
        share = np.cumsum(np.bincount(counts, minlength=longest + 1)) / len(counts)
        axes.step(np.arange(longest + 1), share, where="post", label=method.name, linewidth=1.2)
    axes.set(xlabel="hits kept", ylabel="share of queries keeping at most so many", ylim=(0, 1.01))
    axes.set_title("kept k (at 0: null queries)", fontsize=9)
