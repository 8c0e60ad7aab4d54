import itertools

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from eval.agreement.labels import (
    alpha_of_raters,
    binarised,
    cohen_kappa,
    confusion_matrix,
    exact_agreement,
    ordinal_alpha,
)


def ratings(seed, pairs=400, grades=4):
    rng = np.random.default_rng(seed)
    human = rng.choice(grades, pairs, p=[0.5, 0.2, 0.2, 0.1])
    noise = rng.integers(-1, 3, pairs)
    return human, np.clip(human + noise * (rng.random(pairs) < 0.6), 0, grades - 1)


def alpha_by_pairs_of_labels(raters, grades):
    """Krippendorff's definition over pairs of labels, written without a coincidence matrix."""
    units = [[label for label in unit if label >= 0] for unit in zip(*raters, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    labels = [label for unit in units for label in unit]
    frequency = [labels.count(grade) for grade in range(grades)]

    def distance(c, k):
        low, high = min(c, k), max(c, k)
        between = sum(frequency[low : high + 1])
        return (between - (frequency[low] + frequency[high]) / 2) ** 2

    observed = sum(
        distance(a, b) / (len(unit) - 1)
        for unit in units
        for a, b in itertools.permutations(unit, 2)
    ) / len(labels)
    expected = sum(distance(a, b) for a, b in itertools.permutations(labels, 2))
    return 1 - observed / (expected / (len(labels) * (len(labels) - 1)))


@pytest.mark.parametrize("seed", range(3))
def test_kappa_equals_sklearn_graded_quadratic_and_at_each_cut(seed):
    human, judge = ratings(seed)
    confusion = confusion_matrix(human, judge, 4)
    assert cohen_kappa(confusion) == pytest.approx(cohen_kappa_score(human, judge), abs=1e-12)
    quadratic = cohen_kappa_score(human, judge, weights="quadratic")
    assert cohen_kappa(confusion, "quadratic") == pytest.approx(quadratic, abs=1e-12)
    for cut in (1, 2, 3):
        expected = cohen_kappa_score(human >= cut, judge >= cut)
        assert cohen_kappa(binarised(confusion, cut)) == pytest.approx(expected, abs=1e-12)
    assert exact_agreement(confusion) == pytest.approx((human == judge).mean())


def test_kappa_worked_by_hand():
    # 50 pairs: observed (20 + 15)/50 = .7, expected .5*.6 + .5*.4 = .5, kappa .4.
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4, abs=1e-15)
    # Disagreements one and two grades apart cost 1 and 4:
    # observed (1 + 4)/4, expected from rows (2,1,1) and columns (1,1,2).
    confusion = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1]])
    expected = (2 * (1 * 1 + 2 * 4) + 1 * (1 * 1 + 2 * 1) + 1 * (1 * 4 + 1 * 1)) / 16
    assert cohen_kappa(confusion, "quadratic") == pytest.approx(1 - (4 / 4) / expected, abs=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_alpha_equals_its_definition_over_pairs_of_labels(seed):
    human, judge = ratings(seed, pairs=60)
    expected = alpha_by_pairs_of_labels([human, judge], 4)
    assert ordinal_alpha(confusion_matrix(human, judge, 4)) == pytest.approx(expected, abs=1e-12)
    third = np.where(np.arange(60) % 3 == 0, -1, ratings(seed + 9, pairs=60)[0])
    expected = alpha_by_pairs_of_labels([human, judge, third], 4)
    assert alpha_of_raters([human, judge, third], 4) == pytest.approx(expected, abs=1e-12)


def test_alpha_equals_krippendorffs_published_example():
    """Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section D: four coders,
    twelve units, missing labels; ordinal alpha 0.815."""
    coders = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
    labels = [np.array(coder) - 1 for coder in coders]
    assert alpha_of_raters(labels, 5) == pytest.approx(0.815, abs=5e-4)


def test_perfect_and_undefined():
    same = np.diag([3, 4, 5])
    assert cohen_kappa(same) == cohen_kappa(same, "quadratic") == ordinal_alpha(same) == 1.0
    constant = np.array([[7, 0], [0, 0]])
    assert np.isnan(cohen_kappa(constant))
    assert np.isnan(ordinal_alpha(constant))


def test_leading_axes_are_separate_tables():
    tables = np.stack([confusion_matrix(*ratings(seed), 4) for seed in range(5)])
    for function in (cohen_kappa, ordinal_alpha, exact_agreement):
        np.testing.assert_allclose(function(tables), [function(table) for table in tables])
