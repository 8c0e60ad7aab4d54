"""Where to put the threshold: by recall target, by conformal risk control, or by hand.

Enters: a value per hit and labels of calibration queries. Leaves: one threshold t; a hit is kept
iff its value >= t, here and everywhere else.

    choose_threshold(RecallTarget(0.95), values, labelled)
"""

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.adapter.hits import LabelledHits, per_query_sum

# Finite, so that JSON can hold it; no score lies below.
KEEP_ALL = -sys.float_info.max


@dataclass(frozen=True)
class RecallTarget:
    """The highest threshold that keeps at least `recall` of all relevant hits, pooled over queries.

    It holds, by count, on the queries it was chosen on; elsewhere it is an estimate.
    """

    recall: float

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise ValueError(f"recall target {self.recall} must be above 0 and at most 1")

    def __str__(self) -> str:
        return f"recall >= {self.recall:g} of the relevant hits of the calibration queries"


@dataclass(frozen=True)
class RiskControl:
    """Conformal risk control (arXiv 2208.02814): expected recall loss at most `alpha`.

    The loss of a query is the share of its relevant hits that are cut. For a new query drawn like
    the calibration queries the *expected* loss is at most alpha: on average over queries and over
    draws of the calibration set, not for each query, and not under another query distribution.
    Queries without a relevant hit have no loss and are left out, which is the stricter reading.
    """

    alpha: float

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"risk level {self.alpha} must lie between 0 and 1")

    def __str__(self) -> str:
        return (
            f"conformal risk control: expected share of a query's relevant hits that is cut "
            f"<= {self.alpha:g}, on average over queries like the calibration queries"
        )


@dataclass(frozen=True)
class ByHand:
    """A threshold somebody chose: a probability where the scorer gives one, else a score."""

    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"threshold {self.value} must be a finite number")

    def __str__(self) -> str:
        return f"threshold {self.value:g} by hand"


ThresholdRule = RecallTarget | RiskControl | ByHand


def rule_state(rule: ThresholdRule) -> dict[str, Any]:
    """What JSON says of a rule: its name, its number and its meaning in words."""
    (number,) = vars(rule).values()
    return {"rule": type(rule).__name__, "value": number, "meaning": str(rule)}


def choose_threshold(
    rule: ThresholdRule,
    values: np.ndarray,
    labelled: LabelledHits,
    *,
    values_are_logits: bool = False,
) -> float:
    """The threshold the rule asks for on these values (float64 [P]) of calibration queries."""
    if isinstance(rule, RecallTarget):
        return threshold_for_recall(values, labelled, rule.recall)
    if isinstance(rule, RiskControl):
        return threshold_for_risk(values, labelled, rule.alpha)
    return logit(rule.value) if values_are_logits else rule.value


def threshold_for_recall(values: np.ndarray, labelled: LabelledHits, recall: float) -> float:
    """The highest t with (relevant hits of value >= t) / (relevant hits) >= recall."""
    relevant = np.sort(values[labelled.labels == 1])[::-1]
    if not len(relevant):
        raise ValueError(
            "no calibration query has a relevant hit, so no threshold reaches a recall"
        )
    shares = np.arange(1, len(relevant) + 1) / len(relevant)
    return float(relevant[np.argmax(shares >= recall)])


def threshold_for_risk(values: np.ndarray, labelled: LabelledHits, alpha: float) -> float:
    """The highest t with n/(n+1) * mean loss(t) + 1/(n+1) <= alpha, over n queries that can lose.

    The loss of a query, 1 - (relevant kept) / (relevant), is at most B = 1 and falls as t falls.

    Raises `ValueError` where not even cutting nothing can promise alpha: 1/(n+1) > alpha.
    """
    relevant = labelled.relevant_per_query
    n = int((relevant > 0).sum())
    if 1 / (n + 1) > alpha:
        raise ValueError(
            f"{n} calibration queries with a relevant hit cannot promise a risk of {alpha:g}; "
            f"label at least {math.ceil(1 / alpha - 1)} or allow more risk"
        )
    is_relevant = labelled.labels == 1
    of_hit = values[is_relevant]
    order = np.argsort(-of_hit, kind="stable")
    share = 1 / relevant[labelled.hits.query_of_hit[is_relevant][order]]
    # Mean loss when everything down to and including the i-th relevant hit is kept.
    loss = 1 - np.cumsum(share) / n
    ordered = of_hit[order]
    last_of_ties = np.append(ordered[1:] != ordered[:-1], True)
    # Rounding must not turn a bound that is just missed into one that is met.
    allowed = last_of_ties & (n / (n + 1) * loss + 1 / (n + 1) <= alpha - 1e-12)
    return float(ordered[np.argmax(allowed)]) if allowed.any() else KEEP_ALL


def recall_losses(kept: np.ndarray, labelled: LabelledHits) -> np.ndarray:
    """Share of its relevant hits that each query loses, float64 [Q]; NaN without relevant hits."""
    relevant = labelled.relevant_per_query
    stayed = per_query_sum(kept & (labelled.labels == 1), labelled.hits.offsets)
    return np.where(relevant > 0, 1 - stayed / np.maximum(relevant, 1), np.nan)


def logit(probability: float) -> float:
    """log(p / (1 - p)). Raises `ValueError` outside (0, 1)."""
    if not 0 < probability < 1:
        raise ValueError(
            f"threshold {probability:g} is no probability; this filter is cut between 0 and 1"
        )
    return math.log(probability / (1 - probability))
