import numpy as np
import pytest
import scipy.stats

from eval.statistics import intervals
from eval.statistics.intervals import bootstrap_intervals


def test_agrees_with_scipys_percentile_bootstrap():
    values = np.random.default_rng(1).beta(2, 5, (80, 3))
    ours = bootstrap_intervals(values, resamples=20_000)
    for column in range(3):
        theirs = scipy.stats.bootstrap(
            (values[:, column],), np.mean, n_resamples=20_000, method="percentile", rng=2
        ).confidence_interval
        width = theirs.high - theirs.low
        assert abs(ours.low[column] - theirs.low) < 0.03 * width
        assert abs(ours.high[column] - theirs.high) < 0.03 * width


def test_covers_the_true_mean_about_as_often_as_promised():
    rng = np.random.default_rng(3)
    samples = rng.exponential(size=(60, 400))
    found = bootstrap_intervals(samples, resamples=2000)
    covered = np.mean((found.low <= 1) & (found.high >= 1))
    assert 0.88 < covered < 0.98


def test_same_seed_same_ends_and_chunks_change_nothing_but_the_order(monkeypatch):
    values = np.random.default_rng(1).random((30, 2))
    first = bootstrap_intervals(values, resamples=500, seed=7)
    again = bootstrap_intervals(values, resamples=500, seed=7)
    assert np.array_equal(first, again)
    monkeypatch.setattr(intervals, "CELLS_AT_A_TIME", 64)
    np.testing.assert_allclose(bootstrap_intervals(values, resamples=500, seed=7), first)


def test_equal_values_and_one_query_have_no_width():
    assert np.array_equal(bootstrap_intervals(np.full((9, 1), 0.25), resamples=100), [[0.25]] * 2)
    assert np.array_equal(bootstrap_intervals(np.array([[0.5]]), resamples=100), [[0.5]] * 2)


@pytest.mark.parametrize(
    "bad", [np.zeros((0, 2)), np.zeros(3), np.array([[np.nan]]), np.array([[np.inf]])]
)
def test_what_cannot_be_resampled_is_refused(bad):
    with pytest.raises(ValueError, match="values must be"):
        bootstrap_intervals(bad)
