import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from retrieval.adapter.hits import pack_labelled
from retrieval.adapter.measures import (
    bootstrap_weights,
    calibration_bins,
    curve_measures,
    curves_by_part,
    cut_counts,
    cut_measures,
    expected_calibration_error,
    log_losses,
    tokens_saved,
)


def _random(queries: int = 40, decimals: int | None = None, seed: int = 0):
    generator = np.random.default_rng(seed)
    scores, labels = [], []
    for _ in range(queries):
        size = int(generator.integers(1, 20))
        x = np.sort(generator.random(size))[::-1]
        x = np.round(x, decimals) if decimals is not None else x
        scores.append(x.astype(np.float32))
        labels.append((generator.random(size) < x).astype(np.int8))
    return pack_labelled(None, scores, labels)


@pytest.mark.parametrize("decimals", [None, 1])
def test_pr_auc_is_average_precision_for_every_bootstrap_sample_and_under_ties(decimals):
    labelled = _random(decimals=decimals)
    values = labelled.hits.scores.astype(np.float64)
    weights = bootstrap_weights(40, 20, seed=1)
    assert weights.sum(axis=1).tolist() == [40] * 20
    found = curve_measures(values, labelled, weights)["PR-AUC"]
    for row, ours in zip(weights, found, strict=True):
        of_hit = row[labelled.hits.query_of_hit]
        wanted = average_precision_score(labelled.labels, values, sample_weight=of_hit)
        assert ours == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("decimals", [None, 1])
def test_precision_at_recall_is_that_of_the_highest_threshold_that_reaches_it(decimals):
    labelled = _random(decimals=decimals, seed=2)
    values = labelled.hits.scores.astype(np.float64)
    found = curve_measures(values, labelled, np.ones((1, 40)))
    precision, recall, _ = precision_recall_curve(labelled.labels, values)
    for name, target in (("P@R90", 0.90), ("P@R95", 0.95), ("P@R99", 0.99)):
        reached = np.flatnonzero(recall >= target).max()
        assert found[name][0] == pytest.approx(precision[reached], abs=1e-6)


def test_unjudged_hits_count_in_no_curve():
    scores = [np.array([0.9, 0.8, 0.7, 0.6], np.float32)]
    with_gap = pack_labelled(None, scores, [np.array([1, -1, 0, 1], np.int8)])
    without = pack_labelled(None, [scores[0][[0, 2, 3]]], [np.array([1, 0, 1], np.int8)])
    one = np.ones((1, 1))
    a = curve_measures(with_gap.hits.scores, with_gap, one)
    b = curve_measures(without.hits.scores, without, one)
    assert a == b
    assert a["PR-AUC"][0] == pytest.approx((1 + 2 / 3) / 2)


def test_parts_are_measured_each_by_itself():
    """Values of two fits on scales far apart: pooled they would look bad, each is perfect."""
    scores = [np.array([0.9, 0.1], np.float32)] * 2
    labelled = pack_labelled(None, scores, [np.array([1, 0], np.int8)] * 2)
    values, one = np.array([100.0, 99.0, 2.0, 1.0]), np.ones((1, 2))
    assert curve_measures(values, labelled, one)["PR-AUC"][0] < 1
    assert curves_by_part(values, labelled, np.array([0, 1]), one)["PR-AUC"][0] == 1


def test_cut_measures_by_hand():
    """Three queries: one cut well, one nulled wrongly, one nulled rightly."""
    scores = [np.array([0.9, 0.8, 0.1], np.float32), *[np.array([0.3, 0.2], np.float32)] * 2]
    labels = [np.array([1, 0, 1], np.int8), np.array([1, 0], np.int8), np.array([0, 0], np.int8)]
    labelled = pack_labelled(None, scores, labels)
    cut = cut_counts(labelled.hits.scores >= 0.5, labelled)
    assert cut.kept.tolist() == [2, 0, 0]
    found = {name: value[0] for name, value in cut_measures(cut, np.ones((1, 3))).items()}
    assert found == {
        "precision": 1 / 2,
        "recall": 1 / 3,
        "filtered": pytest.approx(5 / 7),
        "null": 2 / 3,
        "wrongly nulled": 1 / 2,
        "rightly nulled": 1,
    }
    doubled = cut_measures(cut, np.array([[0.0, 2.0, 1.0]]))
    assert doubled["recall"][0] == 0
    assert np.isnan(doubled["precision"][0])


def test_calibration_error_and_log_loss_by_hand():
    scores = [np.array([0.9, 0.8, 0.2], np.float32), np.array([0.1], np.float32)]
    labelled = pack_labelled(None, scores, [np.array([1, 0, -1], np.int8), np.array([0], np.int8)])
    p = np.array([0.85, 0.85, 0.5, 0.15])
    bins = calibration_bins(p, labelled)
    assert bins[8].tolist() == pytest.approx([0.85, 0.5, 2])
    assert bins[:, 2].sum() == 3
    assert expected_calibration_error(p, labelled) == pytest.approx((2 * 0.35 + 0.15) / 3)
    wanted = [-np.log(0.85) - np.log(0.15), -np.log(0.85)]
    assert log_losses(p, labelled) == pytest.approx(wanted)
    assert expected_calibration_error(np.ones(4), labelled) == pytest.approx(2 / 3)


def test_tokens_saved_by_hand():
    kept = [np.array([True, False, True]), np.array([False]), np.zeros(0, bool)]
    tokens = [np.array([100, 50, 20]), np.array([30]), np.zeros(0, int)]
    assert tokens_saved(kept, tokens) == (200, 120, pytest.approx(0.4))
    assert tokens_saved([], []) == (0, 0, 0.0)
    with pytest.raises(ValueError, match="query number 1: 3 kept flags for 2 token counts"):
        tokens_saved(kept, [tokens[0][:2], *tokens[1:]])
