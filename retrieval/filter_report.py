"""How good a filter is: curves, cuts and what they cost, against the plain cuts.

Enters: labelled hits and, per method, its values and what it kept. Leaves: a `FilterReport` with
bootstrap intervals over queries, as a table or JSON.

    print(measure_filters(labelled, [global_method, ours], labels="qrels").table())
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from retrieval.adapter.filters import ThresholdFilter, kept
from retrieval.adapter.hits import Hits, LabelledHits
from retrieval.adapter.measures import (
    CUT_MEASURES,
    RECALLS,
    bootstrap_weights,
    curves_by_part,
    cut_counts,
    cut_measures,
    expected_calibration_error,
    recall_name,
)
from retrieval.adapter.scorers import PLAIN_SCORERS, sigmoid

CURVES = ("PR-AUC", *map(recall_name, RECALLS))
_KEPT_QUANTILES = (0.1, 0.5, 0.9)
_SHARES = frozenset({"filtered", "null", "wrongly nulled", "rightly nulled"})


class Estimate(NamedTuple):
    """A number with its 95 % bootstrap interval over queries."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0


class Method(NamedTuple):
    """One way to cut: a value per hit, which hits stay, and probabilities where it knows them."""

    name: str
    values: np.ndarray  # float64 [P]
    kept: np.ndarray  # bool [P]
    probabilities: np.ndarray | None = None  # float64 [P]


@dataclass(frozen=True)
class MethodRow:
    """A method's measures, and those minus the reference's on the same bootstrap samples."""

    name: str
    measures: dict[str, Estimate]
    gains: dict[str, Estimate]
    ece: float | None
    kept_k: dict[str, float]


@dataclass(frozen=True)
class FilterReport:
    """What `measure_filters` found; the first row is the reference of all gains."""

    rows: tuple[MethodRow, ...]
    labels: str
    queries: int
    judged_hits: int
    relevant_hits: int
    notes: tuple[str, ...] = ()

    @property
    def is_pseudo(self) -> bool:
        """Whether the labels are pseudo-labels."""
        return self.labels.startswith("pseudo:")

    @property
    def heading(self) -> str:
        """One line that says what was measured on which labels."""
        marked = f"PSEUDO-LABELS ({self.labels})" if self.is_pseudo else f"labels: {self.labels}"
        return (
            f"{marked}; {self.queries} queries, {self.judged_hits} judged hits, "
            f"{self.relevant_hits} relevant"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, with intervals as [value, low, high]."""
        return {
            "labels": self.labels,
            "pseudo_labels": self.is_pseudo,
            "queries": self.queries,
            "judged_hits": self.judged_hits,
            "relevant_hits": self.relevant_hits,
            "notes": list(self.notes),
            "reference": self.rows[0].name,
            "methods": [
                {
                    "name": row.name,
                    "measures": {n: _plain(e) for n, e in row.measures.items()},
                    "gains": {n: _plain(e) for n, e in row.gains.items()},
                    "ece": row.ece,
                    "kept_k": row.kept_k,
                }
                for row in self.rows
            ],
        }

    def table(self) -> str:
        """Three blocks: curves over all thresholds, the cuts, and the gains over the reference."""
        width = max(len(row.name) for row in self.rows) + 1
        lines = [self.heading, *self.notes, "", _heads("over all thresholds", CURVES, width)]
        lines += [_line(row.name, row.measures, CURVES, width) for row in self.rows]
        cuts = tuple(CUT_MEASURES)
        lines += ["", _heads("at its threshold", (*cuts, "kept k", "ECE"), width)]
        for row in self.rows:
            k = f"{row.kept_k['p50']:.0f} ({row.kept_k['p10']:.0f}-{row.kept_k['p90']:.0f})"
            ece = "-" if row.ece is None else f"{row.ece:.3f}"
            lines.append(f"{_line(row.name, row.measures, cuts, width)}  {k:>22}  {ece:>22}")
        reference = self.rows[0].name
        shown = (*CURVES, "precision", "recall", "filtered", "null", "wrongly nulled")
        lines += ["", _heads(f"minus {reference}", shown, width)]
        lines += [_line(r.name, r.gains, shown, width, signed=True) for r in self.rows[1:]]
        return "\n".join([*lines, "* the paired 95 % interval excludes 0"])


def measure_filters(
    labelled: LabelledHits,
    methods: Sequence[Method],
    *,
    labels: str,
    parts: np.ndarray | None = None,
    notes: Sequence[str] = (),
    samples: int = 1000,
    seed: int = 0,
) -> FilterReport:
    """Measure each method with intervals, and its differences to the first one, sample by sample.

    `parts` (int [Q]) groups queries whose values come from one fit: curves are measured inside
    each part and averaged, since values of different fits share no scale.
    """
    queries = labelled.hits.queries
    parts = np.zeros(queries, int) if parts is None else parts
    one, weights = np.ones((1, queries)), bootstrap_weights(queries, samples, seed)
    whole, sampled = [], []
    for method in methods:
        cut = cut_counts(method.kept, labelled)
        both = [
            {**curves_by_part(method.values, labelled, parts, w), **cut_measures(cut, w)}
            for w in (one, weights)
        ]
        whole.append(both[0])
        sampled.append(both[1])
    rows = []
    for method, point, draws in zip(methods, whole, sampled, strict=True):
        p = method.probabilities
        counts = cut_counts(method.kept, labelled).kept
        quantiles = np.quantile(counts, _KEPT_QUANTILES)
        named = {
            f"p{round(100 * q)}": float(v) for q, v in zip(_KEPT_QUANTILES, quantiles, strict=True)
        }
        rows.append(
            MethodRow(
                name=method.name,
                measures={n: _estimate(point[n], draws[n]) for n in point},
                gains={
                    n: _estimate(point[n] - whole[0][n], draws[n] - sampled[0][n]) for n in point
                },
                ece=None if p is None else expected_calibration_error(p, labelled),
                kept_k={**named, "mean": float(counts.mean())},
            )
        )
    return FilterReport(
        tuple(rows),
        labels,
        queries,
        int(labelled.judged.sum()),
        int((labelled.labels == 1).sum()),
        tuple(notes),
    )


def filter_methods(chosen: ThresholdFilter, hits: Hits, name: str = "filter") -> list[Method]:
    """The plain cuts, global score first, and the filter, all on the same hits.

    The plain cuts stand where they reached, on the filter's calibration queries, the recall that
    the filter reached there; a filter cut by hand without such a record is compared at its own
    number of kept hits.
    """
    values = chosen.scorer.values(hits)
    stayed = kept(values, chosen.threshold)
    probabilities = sigmoid(values) if chosen.scorer.has_probabilities else None
    methods = []
    recorded = chosen.record.get("baseline_thresholds") or {}
    for plain in ("global", "max-norm", "top-k", "max-gap"):
        of_plain = PLAIN_SCORERS[plain].values(hits)
        if plain == "max-gap":
            threshold = 1.0
        elif plain in recorded:
            threshold = float(recorded[plain])
        else:
            threshold = float(np.sort(of_plain)[::-1][max(0, int(stayed.sum()) - 1)])
        methods.append(Method(plain, of_plain, kept(of_plain, threshold)))
    return [*methods, Method(name, values, stayed, probabilities)]


def _estimate(value: np.ndarray, draws: np.ndarray) -> Estimate:
    known = draws[~np.isnan(draws)]
    low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (np.nan, np.nan)
    return Estimate(float(value[0]), float(low), float(high))


def _plain(estimate: Estimate) -> list[float | None]:
    """JSON has no NaN."""
    return [None if np.isnan(number) else number for number in estimate]


def _heads(title: str, names: Sequence[str], width: int) -> str:
    return "  ".join([f"{title:<{max(width, 22)}}", *(f"{name:>22}" for name in names)])


def _line(
    name: str, found: dict[str, Estimate], names: Sequence[str], width: int, *, signed: bool = False
) -> str:
    cells = []
    for measure in names:
        value, low, high = found[measure]
        if np.isnan(value):
            cells.append(f"{'-':>22}")
            continue
        scale, digits = (100, 1) if measure in _SHARES else (1, 3)
        unit = "%" if measure in _SHARES else ""
        sign = "+" if signed else ""
        star = "*" if signed and found[measure].excludes_zero else ""
        numbers = [f"{scale * number:{sign}.{digits}f}" for number in (value, low, high)]
        cells.append(f"{numbers[0]}{unit} [{numbers[1]}, {numbers[2]}]{star}".rjust(22))
    return "  ".join([f"{name:<{max(width, 22)}}", *cells])
