"""Bootstrap confidence intervals of means over queries.

Enters: values [Q, M], one row per query. Leaves: lower and upper ends [M].

    python -c "import numpy; from eval.statistics.intervals import bootstrap_intervals; \
print(bootstrap_intervals(numpy.random.default_rng(0).random((50, 2))))"
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Cells of the count matrix held at a time (8 bytes each): the memory does not grow with the number
# of resamples, nor with that of queries.
CELLS_AT_A_TIME = 2_000_000


class Intervals(NamedTuple):
    """Lower and upper ends, float64 [M]."""

    low: np.ndarray
    high: np.ndarray


def bootstrap_intervals(
    values: np.ndarray, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Intervals:
    """Return percentile bootstrap intervals of the column means of `values` [Q, M].

    Queries are drawn with replacement (Efron 1979); all columns share the draws, so measures and
    systems stay paired. One query gives an interval of no width, which says nothing: the caller
    shows the number of queries beside it. Raises `ValueError` for no queries or values that are
    not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"values must be [queries, measures] with a query, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite to be resampled")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    # How often each query is drawn decides a mean: one matrix product serves all columns.
    means = np.concatenate(
        [counts @ values for counts in bootstrap_counts(len(values), resamples, seed)]
    ) / len(values)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return Intervals(low, high)


def bootstrap_counts(queries: int, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield how often each query is drawn, int64 [part of the resamples, queries], part by part."""
    generator = np.random.default_rng(seed)
    rows = max(1, CELLS_AT_A_TIME // queries)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = generator.integers(0, queries, (count, queries))
        drawn += np.arange(count)[:, None] * queries
        yield np.bincount(drawn.ravel(), minlength=count * queries).reshape(count, queries)
