"""Chance-corrected agreement of two raters' grades.

Enters: confusion matrices [..., G, G] (rows: the human's grade, columns: the judge's).
Leaves: coefficients [...]; NaN where one is not defined. Leading axes are bootstrap resamples.

    python -c "import numpy; from eval.agreement.labels import cohen_kappa; \
print(cohen_kappa(numpy.array([[8, 2], [1, 9]])))"
"""

from collections.abc import Sequence

import numpy as np


def confusion_matrix(human: np.ndarray, judge: np.ndarray, grades: int) -> np.ndarray:
    """Count pairs of grades 0..G-1: int64 [G, G], rows human, columns judge."""
    flat = np.asarray(human) * grades + np.asarray(judge)
    return np.bincount(flat, minlength=grades * grades).reshape(grades, grades)


def exact_agreement(confusion: np.ndarray) -> np.ndarray:
    """Return the share of pairs with the same grade."""
    confusion = np.asarray(confusion, dtype=np.float64)
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1)))


def cohen_kappa(confusion: np.ndarray, weights: str = "none") -> np.ndarray:
    """Return Cohen's kappa (1960), or with `weights="quadratic"` the weighted one (1968).

    1 - sum(w o) / sum(w e), with o the observed and e the expected shares under independence, and
    w = [i != j] or (i - j)^2. NaN where both raters always give one and the same grade.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    grades = np.arange(confusion.shape[-1])
    distance = np.subtract.outer(grades, grades)
    if weights == "none":
        cost = (distance != 0).astype(np.float64)
    elif weights == "quadratic":
        cost = distance.astype(np.float64) ** 2
    else:
        raise ValueError(f"weights must be 'none' or 'quadratic', got {weights!r}")
    human, judge = confusion.sum(-1), confusion.sum(-2)
    total = confusion.sum((-2, -1))
    observed = (confusion * cost).sum((-2, -1))
    expected = ((human[..., :, None] * judge[..., None, :]) * cost).sum((-2, -1))
    return 1.0 - _ratio(observed * total, expected)


def binarised(confusion: np.ndarray, cut: int) -> np.ndarray:
    """Return the [..., 2, 2] confusion of 'grade >= cut'."""
    confusion = np.asarray(confusion)
    low, high = slice(None, cut), slice(cut, None)
    rows = np.stack([confusion[..., low, :].sum(-2), confusion[..., high, :].sum(-2)], axis=-2)
    return np.stack([rows[..., low].sum(-1), rows[..., high].sum(-1)], axis=-1)


def ordinal_alpha(confusion: np.ndarray) -> np.ndarray:
    """Return Krippendorff's alpha of two raters for ordinal grades.

    The coincidence matrix of two raters is the confusion matrix plus its transpose; the rest is
    `alpha_of_coincidences`.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    return alpha_of_coincidences(confusion + np.swapaxes(confusion, -2, -1))


def alpha_of_raters(labels: Sequence[np.ndarray], grades: int) -> float:
    """Return ordinal alpha of any number of raters; label -1 says that the rater gave none.

    Every pair of labels of a unit with m labels enters the coincidence matrix with weight
    1 / (m - 1); units with fewer than two labels cannot be compared and are left out.
    """
    table = np.stack([np.asarray(column) for column in labels])
    counts = np.stack([(table == grade).sum(axis=0) for grade in range(grades)], axis=1)
    counts = counts[counts.sum(axis=1) >= 2].astype(np.float64)
    weights = 1.0 / (counts.sum(axis=1) - 1)
    pairs = (counts * weights[:, None]).T @ counts
    # A label is not paired with itself.
    return float(alpha_of_coincidences(pairs - np.diag((counts * weights[:, None]).sum(axis=0))))


def alpha_of_coincidences(coincidences: np.ndarray) -> np.ndarray:
    """Return ordinal alpha of coincidence matrices o [..., G, G].

    alpha = 1 - (n - 1) sum o_ck d_ck / sum n_c n_k d_ck, where the ordinal distance is
    d_ck = (n_c/2 + sum of n_g between c and k + n_k/2)^2: grades are as far apart as there are
    labels between them (Krippendorff, Content Analysis, 2004, section 11.3).
    """
    totals = coincidences.sum(-1)
    # The middle of each grade's labels on a line where all labels stand in order.
    middle = np.cumsum(totals, axis=-1) - totals / 2
    distance = (middle[..., :, None] - middle[..., None, :]) ** 2
    observed = (coincidences * distance).sum((-2, -1))
    expected = (totals[..., :, None] * totals[..., None, :] * distance).sum((-2, -1))
    return 1.0 - _ratio((totals.sum(-1) - 1) * observed, expected)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)
