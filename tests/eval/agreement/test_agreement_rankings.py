import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from eval.agreement.rankings import (
    competition_ranks,
    kendall_tau_b,
    rank_biased_overlap,
    spearman,
    tau_ap,
    top_k_tau,
)

SCORES = st.lists(st.integers(0, 4), min_size=2, max_size=5)


def tau_ap_of_lists(truth, judge):
    """Yilmaz et al.'s definition on two lists without ties."""
    total = 0.0
    for place in range(1, len(judge)):
        above = judge[:place]
        total += sum(truth.index(x) < truth.index(judge[place]) for x in above) / place
    return 2 * total / (len(judge) - 1) - 1


def orders(scores):
    """All lists, best first, that break the ties of `scores`."""
    items = range(len(scores))
    for order in itertools.permutations(items):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            yield list(order)


def test_tau_ap_worked_by_hand():
    # Truth a b c d; judged b a c d: C = 0, 2, 3 at ranks 2, 3, 4: 2/3 (0 + 1 + 1) - 1 = 1/3.
    assert tau_ap([4, 3, 2, 1], [3, 4, 2, 1]) == pytest.approx(1 / 3, abs=1e-15)
    # The same swap at the bottom costs less: 2/3 (1 + 1 + 2/3) - 1 = 7/9.
    assert tau_ap([4, 3, 2, 1], [4, 3, 1, 2]) == pytest.approx(7 / 9, abs=1e-15)
    assert tau_ap([3, 2, 1], [3, 2, 1]) == 1.0
    assert tau_ap([3, 2, 1], [1, 2, 3]) == -1.0


@given(
    st.integers(2, 5).flatmap(
        lambda n: st.tuples(*[st.lists(st.integers(0, 3), min_size=n, max_size=n)] * 2)
    )
)
def test_tau_ap_with_ties_is_the_mean_over_all_ways_of_breaking_them(pair):
    truth, judge = pair
    values = [tau_ap_of_lists(t, j) for t in orders(truth) for j in orders(judge)]
    assert tau_ap(truth, judge) == pytest.approx(np.mean(values), abs=1e-12)


def test_rbo_worked_by_hand():
    # p = .5, lists abc and acb: agreements 1, 1/2, 1.
    # .5/.5 (1/2 + 1/2 * 1/4 + 1/8) + 1/8 = .875.
    assert rank_biased_overlap([3, 2, 1], [3, 1, 2], p=0.5) == pytest.approx(0.875, abs=1e-15)
    # Reversed, abc and cba: agreements 0, 1/2, 1: 1/2 * 1/4 + 1/8 + 1/8 = .375.
    assert rank_biased_overlap([3, 2, 1], [1, 2, 3], p=0.5) == pytest.approx(0.375, abs=1e-15)
    # A tie at the top: S_1 = {a, b}, L_1 = {a}: 2/3, then 1 and 1: 1/3 + 1/4 + 1/8 + 1/8.
    assert rank_biased_overlap([2, 2, 1], [3, 2, 1], p=0.5) == pytest.approx(5 / 6, abs=1e-15)
    assert rank_biased_overlap([2, 2, 1], [5, 5, 1]) == pytest.approx(1.0, abs=1e-15)


def test_tau_b_and_spearman_equal_scipys_and_ignore_rounding():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 8, 30) / 8, rng.integers(0, 8, 30) / 8
    noise = rng.choice([0.0, 1e-15], 30)
    assert kendall_tau_b(a + noise, b) == pytest.approx(scipy.stats.kendalltau(a, b).statistic)
    assert spearman(a + noise, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)


def test_top_k_keeps_the_truly_best_and_their_ties():
    truth = [9, 8, 7, 7, 1, 0]
    judge = [9, 8, 6, 7, 99, 98]
    assert top_k_tau(truth, judge, 2) == 1.0
    assert competition_ranks(truth).tolist() == [1, 2, 3, 3, 5, 6]
    expected = scipy.stats.kendalltau(truth[:4], judge[:4]).statistic
    assert top_k_tau(truth, judge, 3) == pytest.approx(expected)
    assert np.isnan(top_k_tau(truth, judge, 1))


@given(SCORES)
def test_a_ranking_agrees_with_itself_and_undefined_is_nan(scores):
    assert rank_biased_overlap(scores, scores) == pytest.approx(1.0)
    if len(set(scores)) == 1:
        assert np.isnan(spearman(scores, scores))
        assert np.isnan(kendall_tau_b(scores, scores))
        assert tau_ap(scores, scores) == 0.0
    else:
        assert kendall_tau_b(scores, scores) == pytest.approx(1.0)
