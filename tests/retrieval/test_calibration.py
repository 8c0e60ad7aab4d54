import math

import numpy as np
import pytest

from retrieval.adapter.filters import kept
from retrieval.adapter.hits import LabelledHits, pack_labelled
from retrieval.calibration import (
    KEEP_ALL,
    ByHand,
    RecallTarget,
    RiskControl,
    choose_threshold,
    recall_losses,
    threshold_for_recall,
    threshold_for_risk,
)


def _synthetic(queries: int, seed: int, decimals: int | None = None) -> LabelledHits:
    """Queries of unequal difficulty and length; some have nothing relevant."""
    generator = np.random.default_rng(seed)
    scores, labels = [], []
    for _ in range(queries):
        size = int(generator.integers(2, 30))
        relevant = generator.random(size) < generator.choice([0.0, 0.2, 0.5])
        x = 0.4 + 0.1 * generator.normal() + 0.15 * relevant + 0.1 * generator.normal(size=size)
        x = np.round(x, decimals) if decimals is not None else x
        order = np.argsort(-x, kind="stable")
        scores.append(x[order].astype(np.float32))
        labels.append(relevant[order].astype(np.int8))
    return pack_labelled(None, scores, labels)


def _values(labelled: LabelledHits) -> np.ndarray:
    return labelled.hits.scores.astype(np.float64)


@pytest.mark.parametrize("decimals", [None, 2])
@pytest.mark.parametrize("target", [0.5, 0.9, 0.95, 0.99, 1.0, 1 / 3])
def test_recall_is_never_under_target_and_no_higher_threshold_reaches_it(target, decimals):
    """Counted hit by hit; with rounded scores many relevant hits share one value."""
    for seed in range(5):
        labelled = _synthetic(40, seed, decimals)
        values, relevant = _values(labelled), labelled.labels == 1
        t = threshold_for_recall(values, labelled, target)
        stayed = [bool(v >= t) for v, r in zip(values, relevant, strict=True) if r]
        assert sum(stayed) / len(stayed) >= target
        higher = [v for v in np.unique(values[relevant]) if v > t]
        if higher:
            left = [bool(v >= min(higher)) for v in values[relevant]]
            assert sum(left) / len(left) < target


def test_every_recall_that_can_be_hit_exactly_is_hit_exactly():
    """k of n relevant hits is a recall of k/n in floating point too, for every k and n."""
    for n in range(1, 40):
        scores = [np.arange(n + 1, 0, -1, dtype=np.float32)]
        labelled = pack_labelled(None, scores, [np.array([1] * n + [0], np.int8)])
        for k in range(1, n + 1):
            t = threshold_for_recall(_values(labelled), labelled, k / n)
            assert int((_values(labelled)[:n] >= t).sum()) == k


@pytest.mark.parametrize("alpha", [0.05, 0.10, 0.20])
def test_conformal_risk_holds_on_average_over_random_splits(alpha):
    """n = 200 calibration queries: mean loss on fresh queries <= alpha, and not far under it."""
    population = _synthetic(2500, 7)
    can_lose = np.flatnonzero(population.relevant_per_query > 0)
    generator = np.random.default_rng(11)
    losses = []
    for _ in range(300):
        order = generator.permutation(can_lose)
        calibration, fresh = population.select(order[:200]), population.select(order[200:])
        t = threshold_for_risk(_values(calibration), calibration, alpha)
        losses.append(recall_losses(kept(_values(fresh), t), fresh).mean())
    assert np.mean(losses) <= alpha + 0.005
    assert np.mean(losses) >= alpha - 0.02


@pytest.mark.parametrize("decimals", [None, 2])
def test_conformal_threshold_is_the_most_aggressive_that_keeps_the_bound(decimals):
    labelled = _synthetic(60, 3, decimals)
    values = _values(labelled)
    n = int((labelled.relevant_per_query > 0).sum())

    def bound(t: float) -> float:
        loss = np.nanmean(recall_losses(kept(values, t), labelled))
        return n / (n + 1) * loss + 1 / (n + 1)

    t = threshold_for_risk(values, labelled, 0.15)
    assert bound(t) <= 0.15
    assert all(bound(v) > 0.15 for v in np.unique(values) if v > t)


def test_queries_without_relevant_hits_do_not_dilute_the_risk():
    labelled = _synthetic(120, 5)
    only = labelled.select(np.flatnonzero(labelled.relevant_per_query > 0))
    with_null = threshold_for_risk(_values(labelled), labelled, 0.1)
    assert with_null == threshold_for_risk(_values(only), only, 0.1)


def test_too_few_queries_cannot_promise_a_risk_and_the_least_number_can():
    scores, labels = [np.array([0.9, 0.1], np.float32)] * 20, [np.array([1, 0], np.int8)] * 20
    labelled = pack_labelled(None, scores, labels)
    with pytest.raises(ValueError, match=r"18 calibration queries .* label at least 19"):
        threshold_for_risk(np.tile([0.9, 0.1], 18), labelled.select(np.arange(18)), 0.05)
    t = threshold_for_risk(np.tile([0.9, 0.1], 20), labelled, 0.05)
    assert t in (0.9, KEEP_ALL)


def test_rules_choose_and_refuse():
    labelled = _synthetic(100, 1)
    values = _values(labelled)
    assert choose_threshold(RecallTarget(0.9), values, labelled) == threshold_for_recall(
        values, labelled, 0.9
    )
    assert choose_threshold(RiskControl(0.2), values, labelled) == threshold_for_risk(
        values, labelled, 0.2
    )
    assert choose_threshold(ByHand(0.35), values, labelled) == 0.35
    assert choose_threshold(ByHand(0.5), values, labelled, values_are_logits=True) == 0
    with pytest.raises(ValueError, match=r"threshold 1\.5 is no probability"):
        choose_threshold(ByHand(1.5), values, labelled, values_are_logits=True)
    for rule, number in (
        (RecallTarget, 0.0),
        (RecallTarget, 1.1),
        (RiskControl, 0.0),
        (RiskControl, 1.0),
    ):
        with pytest.raises(ValueError, match="must"):
            rule(number)
    with pytest.raises(ValueError, match="must be a finite number"):
        ByHand(math.nan)


def test_the_guarantee_is_said_in_words():
    assert "on average over queries" in str(RiskControl(0.1))
