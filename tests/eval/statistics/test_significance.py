import itertools

import numpy as np
import pytest
import scipy.stats

from eval.statistics import significance
from eval.statistics.significance import (
    effect_sizes,
    holm,
    outcomes,
    paired_t_test,
    permutation_test,
)


def test_t_test_equals_scipys_on_the_two_columns():
    rng = np.random.default_rng(0)
    a, b = rng.random((40, 3)), rng.random((40, 1))
    expected = [scipy.stats.ttest_rel(a[:, column], b[:, 0]).pvalue for column in range(3)]
    np.testing.assert_allclose(paired_t_test(a - b), expected, rtol=1e-10)


def test_no_difference_is_p_one_and_no_variance_is_no_test():
    differences = np.array([[0.0, 0.1], [0.0, 0.1], [0.0, 0.1]])
    assert paired_t_test(differences)[0] == 1.0
    assert np.isnan(paired_t_test(differences)[1])
    assert permutation_test(differences, permutations=500)[0] == 1.0
    assert effect_sizes(differences)[0] == 0.0
    assert np.isnan(effect_sizes(differences)[1])
    assert np.isnan(paired_t_test(np.array([[0.5]]))[0])


def test_permutation_p_approaches_the_exact_one_over_all_sign_flips():
    differences = np.array([0.3, -0.1, 0.25, 0.4, -0.05, 0.15, 0.2, -0.2, 0.1, 0.35])
    signs = np.array(list(itertools.product([1, -1], repeat=10)))
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    sampled = permutation_test(differences[:, None], permutations=200_000)[0]
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 200_000))


def test_permutation_p_is_never_zero_and_repeats():
    differences = np.random.default_rng(0).normal(5, 0.1, (60, 2))
    p_values = permutation_test(differences, permutations=999)
    assert p_values.tolist() == [1 / 1000, 1 / 1000]
    weak = np.random.default_rng(0).normal(0.1, 1, (60, 2))
    assert np.array_equal(permutation_test(weak, seed=5), permutation_test(weak, seed=5))


def test_permutation_p_is_uniform_under_the_null():
    differences = np.random.default_rng(4).normal(size=(25, 2000))
    p_values = permutation_test(differences, permutations=999)
    for alpha in (0.01, 0.05, 0.25):
        spread = 4 * np.sqrt(alpha * (1 - alpha) / 2000)
        # All columns share their flips, yet each column alone is exact.
        assert np.mean(p_values <= alpha) == pytest.approx(alpha, abs=spread + 0.005)


def test_columns_and_chunks_do_not_change_a_p_value(monkeypatch):
    differences = np.random.default_rng(2).normal(0.2, 1, (33, 4))
    together = permutation_test(differences, permutations=2000)
    alone = [permutation_test(differences[:, [c]], permutations=2000)[0] for c in range(4)]
    np.testing.assert_allclose(together, alone)
    monkeypatch.setattr(significance, "CELLS_AT_A_TIME", 330)
    np.testing.assert_allclose(permutation_test(differences, permutations=2000), together)


def test_sums_that_tie_by_rounding_count_as_reached():
    """0.1 + 0.2 is not 0.3 in float64: without a tolerance these p-values would be too small."""
    differences = np.array([[0.1], [0.2], [0.3], [-0.3], [-0.2], [-0.1]]) + 0.0
    assert permutation_test(differences, permutations=999)[0] == 1.0


def test_holm_worked_by_hand_and_skips_what_was_not_tested():
    # Ordered .01, .02, .04 times 3, 2, 1, then the running maximum: .03, .04, .04.
    adjusted = holm(np.array([0.04, np.nan, 0.01, 0.02]))
    np.testing.assert_allclose(adjusted, [0.04, np.nan, 0.03, 0.04])
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_effect_size_and_outcomes_worked_by_hand():
    differences = np.array([1.0, 2.0, 3.0])
    assert effect_sizes(differences[:, None])[0] == pytest.approx(2.0)
    assert outcomes(np.array([0.2, 0.3 - (0.1 + 0.2), 0.0, -1.0])) == (1, 2, 1)


def test_a_failed_system_cannot_be_tested():
    for test in (paired_t_test, permutation_test, effect_sizes):
        with pytest.raises(ValueError, match="finite"):
            test(np.array([[0.1], [np.nan]]))
