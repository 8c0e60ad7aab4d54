"""Randomised Tukey HSD: all pairs of systems at once, with one family-wise error.

Enters: values [Q, S], one column per system. Leaves: p-values [S, S].

    python -c "import numpy; from eval.statistics.tukey import randomised_tukey; \
print(randomised_tukey(numpy.random.default_rng(0).random((50, 3))))"
"""

import numpy as np

# Values permuted at a time (8 bytes each).
CELLS_AT_A_TIME = 2_000_000


def randomised_tukey(
    values: np.ndarray, *, permutations: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Return the symmetric p-values [S, S] of all differences of column means of `values` [Q, S].

    Each permutation shuffles the systems' values inside every query (queries stay blocks, so
    hard and easy ones do not mix) and keeps the largest difference of two means;
    p_ij = (1 + #{largest* >= |mean_i - mean_j|}) / (1 + permutations). The chance of any false
    claim among all pairs is then alpha (Carterette 2012, ACM TOIS 30(1), algorithm 1). p is
    never 0; the diagonal is 1.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise ValueError(
            f"values must be [queries, systems] with a query and two systems, got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("values must be finite: a system that failed cannot be compared")
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    queries, systems = values.shape
    generator = np.random.default_rng(seed)
    ranges = np.empty(permutations)
    # Half a sweep of queries at a time keeps the memory the same for 50 and for 50,000 queries.
    step = max(1, CELLS_AT_A_TIME // (queries * systems))
    for start in range(0, permutations, step):
        count = min(step, permutations - start)
        sums = np.zeros((count, systems))
        part = max(1, CELLS_AT_A_TIME // systems)
        for first in range(0, queries, part):
            block = np.broadcast_to(
                values[first : first + part], (count, *values[first : first + part].shape)
            )
            sums += generator.permuted(block, axis=2).sum(axis=1)
        ranges[start : start + count] = np.ptp(sums, axis=1)
    totals = values.sum(axis=0)
    differences = np.abs(totals[:, None] - totals[None, :])
    # Equal sums must count as reached whatever the order in which they were added up.
    reached = differences - 1e-12 * np.abs(values).sum()
    ranges.sort()
    extreme = permutations - np.searchsorted(ranges, reached, side="left")
    return (1 + extreme) / (1 + permutations)
