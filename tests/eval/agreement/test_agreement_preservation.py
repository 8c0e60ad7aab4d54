import numpy as np
import pytest

from eval.agreement.preservation import preservation


def values(*means, seed=0, queries=40):
    rng = np.random.default_rng(seed)
    return np.array(means) + 0.1 * rng.standard_normal((queries, len(means)))


def test_every_kind_of_pair_is_told_apart():
    # Pairs (0,1), (0,2), (1,2): kept, missed, contradicted.
    truth, judge = values(1.0, 0.5, 0.0), values(1.0, 0.0, 1.0, seed=1)
    found = preservation(truth, judge, permutations=999)
    assert found == (1, 1, 1, 0, 0, found.swapped)
    assert found.recall == pytest.approx(1 / 3)
    assert found.precision == pytest.approx(1 / 2)
    back = preservation(judge, truth, permutations=999)
    assert (back.false, back.missed) == (found.missed, found.false)


def test_the_same_values_keep_everything():
    same = values(0.9, 0.5, 0.49, 0.1)
    found = preservation(same, same, permutations=999)
    assert (found.contradictions, found.missed, found.false, found.swapped) == (0, 0, 0, 0)
    assert found.agreements >= 5
    assert found.recall == found.precision == 1.0


def test_nothing_significant_has_no_rates():
    same = np.random.default_rng(0).random((5, 3))
    found = preservation(same, same, permutations=99)
    assert found.neither == 3
    assert np.isnan(found.recall)
    assert np.isnan(found.precision)


def test_other_queries_are_refused():
    with pytest.raises(ValueError, match="same queries and systems"):
        preservation(np.zeros((4, 2)), np.zeros((5, 2)))
