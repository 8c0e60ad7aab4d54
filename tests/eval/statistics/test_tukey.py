import numpy as np
import pytest

from eval.statistics import tukey
from eval.statistics.significance import permutation_test
from eval.statistics.tukey import randomised_tukey


def null_simulations(simulations, queries, systems, seed):
    """Share of simulated experiments without any difference in which some pair 'differs'."""
    rng = np.random.default_rng(seed)
    upper = np.triu_indices(systems, 1)
    false_claims = 0
    for simulation in range(simulations):
        # Queries differ a lot, systems not at all: unblocked shuffling would be wrong here.
        values = 3 * rng.random((queries, 1)) + rng.random((queries, systems))
        p_values = randomised_tukey(values, permutations=199, seed=simulation)
        false_claims += bool((p_values[upper] <= 0.05).any())
    return false_claims / simulations


@pytest.mark.parametrize(("queries", "systems"), [(30, 5), (12, 3), (43, 8)])
def test_family_wise_error_on_null_simulations(queries, systems):
    assert null_simulations(2000, queries, systems, seed=11) == pytest.approx(0.05, abs=0.015)


def test_same_seed_same_p_and_never_zero():
    values = np.random.default_rng(0).random((40, 4)) + np.array([0, 0, 5, 0.1])
    p_values = randomised_tukey(values, permutations=999, seed=3)
    assert np.array_equal(p_values, randomised_tukey(values, permutations=999, seed=3))
    assert p_values.min() == 1 / 1000
    assert np.array_equal(p_values, p_values.T)
    assert (np.diag(p_values) == 1).all()


def test_two_systems_give_the_paired_permutation_test():
    """Shuffling two values inside a query is flipping the sign of their difference."""
    values = np.random.default_rng(1).random((30, 2)) + np.array([0, 0.12])
    ours = randomised_tukey(values, permutations=100_000)[0, 1]
    paired = permutation_test(values[:, :1] - values[:, 1:], permutations=100_000)[0]
    assert ours == pytest.approx(paired, abs=4 * np.sqrt(2 * paired * (1 - paired) / 100_000))


def test_more_systems_make_one_claim_harder():
    rng = np.random.default_rng(2)
    values = rng.random((30, 1)) + 0.2 * rng.random((30, 12))
    values[:, 1] += 0.05
    pair_alone = randomised_tukey(values[:, :2])[0, 1]
    among_all = randomised_tukey(values)[0, 1]
    assert among_all > pair_alone


def test_parts_of_the_queries_add_up(monkeypatch):
    """A query count beyond one part's memory takes another path; the law must stay the same."""
    values = np.random.default_rng(3).random((50, 3)) + np.array([0, 0.05, 0.1])
    whole = randomised_tukey(values, permutations=20_000)
    monkeypatch.setattr(tukey, "CELLS_AT_A_TIME", 60)
    parts = randomised_tukey(values, permutations=20_000)
    assert np.abs(whole - parts).max() < 0.02


def test_equal_systems_do_not_differ():
    column = np.random.default_rng(4).random((20, 1))
    assert (randomised_tukey(np.repeat(column, 3, axis=1), permutations=200) == 1).all()


@pytest.mark.parametrize("bad", [np.zeros((0, 2)), np.zeros((5, 1)), np.array([[0.0, np.nan]])])
def test_what_cannot_be_compared_is_refused(bad):
    with pytest.raises(ValueError, match="values must be"):
        randomised_tukey(bad)
