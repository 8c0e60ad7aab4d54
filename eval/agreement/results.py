"""What an agreement study found, and how it reads as JSON.

Enters: coefficients and counts by judge. Leaves: the report of docs/evaluation.md.

    report = study(qrels, judges, runs).as_json()
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.agreement.preservation import Preservation
from eval.agreement.rankings import competition_ranks

HUMAN = "human"


@dataclass(frozen=True)
class Settings:
    """What is measured and how much is resampled; saved beside the result.

    `scale` is (lowest, highest) grade; None takes 0 to the highest human grade. `common_pairs`
    drops every pair that some judge has not labelled, from the human labels too, so that judges
    of different samples are compared on the same pairs.
    """

    measure: str = "nDCG@10"
    scale: tuple[int, int] | None = None
    top: int = 10
    rbo_p: float = 0.9
    alpha: float = 0.05
    permutations: int = 10_000
    resamples: int = 2_000
    confidence: float = 0.95
    seed: int = 0
    common_pairs: bool = False


@dataclass(frozen=True)
class Coefficient:
    """A coefficient and its bootstrap interval over queries; NaN where not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LabelAgreement:
    """One judge against the human on the pairs both labelled.

    `confusion` [G, G] has the human's grade in rows. `bias[g]` is the judge's mean grade minus g
    on pairs of human grade g (NaN where there are none); `clipped` counts labels outside the
    scale, of the human and of the judge, that were moved to its nearest end.
    """

    pairs: int
    queries: int
    human_only: int
    judge_only: int
    clipped: tuple[int, int]
    confusion: np.ndarray
    exact: Coefficient
    kappa: Coefficient
    kappa_quadratic: Coefficient
    kappa_at_cut: dict[int, Coefficient]
    alpha_ordinal: Coefficient
    tau_b: float
    spearman: float
    bias: tuple[float, ...]
    mean_bias: float


@dataclass(frozen=True)
class SystemAgreement:
    """Systems ranked by one judge against the human ranking, on the queries both labelled."""

    queries: int
    left_out_queries: tuple[str, ...]
    human_means: dict[str, float]
    judge_means: dict[str, float]
    tau_b: float
    tau_ap: float
    spearman: float
    rbo: float
    top_k_tau: float
    preservation: Preservation


@dataclass(frozen=True)
class Study:
    """Everything found; judges and runs whose file was empty stand in `not_run`."""

    grades: tuple[int, ...]
    labels: dict[str, LabelAgreement]
    systems: dict[str, SystemAgreement]
    raters: tuple[str, ...]
    kappa_matrix: np.ndarray
    alpha_of_all: float
    not_run: tuple[str, ...]
    settings: Settings
    provenance: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the report of docs/evaluation.md; what is not defined is null."""
        report = {
            "grades": list(self.grades),
            "settings": vars(self.settings),
            "not_run": list(self.not_run),
            "judges": {
                name: {
                    "labels": _labels_json(agreement, self.grades),
                    "systems": _systems_json(self.systems[name], self.settings)
                    if name in self.systems
                    else None,
                }
                for name, agreement in self.labels.items()
            },
            "raters": {
                "names": list(self.raters),
                "kappa_quadratic": self.kappa_matrix.tolist(),
                "alpha_ordinal": self.alpha_of_all,
            },
            "provenance": self.provenance,
        }
        cleaned: dict[str, Any] = _null_for_nan(report)
        return cleaned


def _labels_json(agreement: LabelAgreement, grades: Sequence[int]) -> dict[str, Any]:
    report = dict(vars(agreement))
    for name, value in report.items():
        if isinstance(value, Coefficient):
            report[name] = vars(value)
    report["kappa_at_cut"] = {
        str(cut): vars(value) for cut, value in agreement.kappa_at_cut.items()
    }
    report["clipped"] = dict(zip((HUMAN, "judge"), agreement.clipped, strict=True))
    report["confusion"] = agreement.confusion.tolist()
    report["bias"] = dict(zip(map(str, grades), agreement.bias, strict=True))
    return report


def _systems_json(agreement: SystemAgreement, settings: Settings) -> dict[str, Any]:
    report = dict(vars(agreement))
    human = competition_ranks(list(report.pop("human_means").values())).tolist()
    judge = competition_ranks(list(report.pop("judge_means").values())).tolist()
    kept = agreement.preservation
    report["preservation"] = kept._asdict() | {"recall": kept.recall, "precision": kept.precision}
    report["left_out_queries"] = list(agreement.left_out_queries)
    report["systems"] = {
        name: {
            "human": mean,
            "judge": agreement.judge_means[name],
            "human_rank": human[place],
            "judge_rank": judge[place],
        }
        for place, (name, mean) in enumerate(agreement.human_means.items())
    }
    return report | {"measure": settings.measure}


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _null_for_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_null_for_nan(part) for part in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
