"""From a score to the probability that the passage is relevant: one logistic map for all queries.

Enters: scores, and labels to fit with. Leaves: slope and intercept, as `RankerSettings.probability`
keeps them; probabilities.

    probabilities([0.4, 0.1], fit_probability([0.5, 0.3, 0.1], [True, True, False]))
"""

from collections.abc import Sequence

import numpy as np

# As good as unregularised on any real set of labels, and finite where labels part perfectly.
_INVERSE_PENALTY = 1e3


def fit_probability(scores: Sequence[float], relevant: Sequence[bool]) -> tuple[float, float]:
    """Slope and intercept of Platt's calibration: a logistic regression of `relevant` on `scores`.

    Scores of all queries are pooled, as in the relevance filter's calibration (Platt 1999,
    Probabilistic outputs for support vector machines). Raises `ValueError` when all labels are
    alike, when scores are not finite or are all the same, and when higher scores are less
    relevant: a rising map can't be fitted to that.
    """
    from sklearn.linear_model import LogisticRegression

    x = np.asarray(scores, np.float64)
    y = np.asarray(relevant, bool)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} scores and {len(y)} labels")
    if not len(y) or y.all() or not y.any():
        raise ValueError(
            f"{int(y.sum())} of {len(y)} passages are relevant; a probability needs both kinds"
        )
    if not np.isfinite(x).all():
        raise ValueError("a score is not finite")
    centre, scale = float(x.mean()), float(x.std())
    if scale == 0:
        raise ValueError("all scores are the same; a probability needs scores that differ")
    model = LogisticRegression(C=_INVERSE_PENALTY).fit(((x - centre) / scale)[:, None], y)
    slope = float(model.coef_[0, 0]) / scale
    if slope <= 0:
        raise ValueError(f"higher scores are less relevant here (slope {slope:.3g})")
    return slope, float(model.intercept_[0]) - slope * centre


def probabilities(scores: Sequence[float], line: tuple[float, float] | None) -> list[float] | None:
    """sigmoid(slope * score + intercept) of each score; None where there is no `line`."""
    if line is None:
        return None
    slope, intercept = line
    logits = slope * np.asarray(scores, np.float64) + intercept
    return np.exp(-np.logaddexp(0.0, -logits)).tolist()
