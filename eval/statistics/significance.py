"""Paired tests of systems on the same queries: t, permutation, Holm's correction, effect sizes.

Enters: per-query differences [Q, S], one column per system against one baseline.
Leaves: p-values and effect sizes [S].

    python -c "import numpy; from eval.statistics.significance import permutation_test; \
print(permutation_test(numpy.random.default_rng(0).normal(.3, 1, (50, 2))))"
"""

from typing import NamedTuple

import numpy as np

# Cells of the sign matrix held at a time (8 bytes each).
CELLS_AT_A_TIME = 2_000_000

# Differences this small are rounding: 0.1 + 0.2 and 0.3 are a tie, not a win.
TIE = 1e-12


class Outcomes(NamedTuple):
    """On how many queries a system beat, equalled and lost to its baseline."""

    wins: int
    ties: int
    losses: int


def outcomes(differences: np.ndarray) -> Outcomes:
    """Count the queries of `differences` [Q] (system minus baseline) above, at and below 0."""
    wins = int((differences > TIE).sum())
    losses = int((differences < -TIE).sum())
    return Outcomes(wins, len(differences) - wins - losses, losses)


def paired_t_test(differences: np.ndarray) -> np.ndarray:
    """Return two-sided p-values [S] of Student's paired t test on `differences` [Q, S].

    Differences that are all 0 give p = 1. Those that are all equal but not 0, and a single query,
    give NaN: without variance the statistic does not exist.
    """
    from scipy import stats

    differences = _checked(differences)
    p_values = np.full(differences.shape[1], np.nan)
    zero = (np.abs(differences) <= TIE).all(axis=0)
    p_values[zero] = 1.0
    spread = np.ptp(differences, axis=0)
    testable = ~zero & (spread > TIE)
    if testable.any():
        p_values[testable] = stats.ttest_1samp(differences[:, testable], 0.0).pvalue
    return p_values


def permutation_test(
    differences: np.ndarray, *, permutations: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Return two-sided p-values [S] of the paired permutation (sign-flip) test of the means.

    Under the null hypothesis the two systems of a query may be swapped: each permutation flips
    the signs of a random half of the queries, the same ones for all columns, and
    p = (1 + #{|mean*| >= |mean|}) / (1 + permutations), which is never 0 (Phipson & Smyth 2010).
    """
    differences = _checked(differences)
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    queries, systems = differences.shape
    generator = np.random.default_rng(seed)
    observed = np.abs(differences.sum(axis=0))
    # A sum that equals the observed one must count as reached whatever the order of adding up.
    reached = observed - TIE * np.abs(differences).sum(axis=0)
    extreme = np.zeros(systems, dtype=np.int64)
    rows = max(1, CELLS_AT_A_TIME // queries)
    for start in range(0, permutations, rows):
        count = min(rows, permutations - start)
        # Whole 32-bit words per permutation: the flips don't depend on how many fit in memory.
        bits = np.frombuffer(generator.bytes(count * 4 * -(-queries // 32)), np.uint8)
        flips = np.unpackbits(bits.reshape(count, -1), axis=1, count=queries)
        # A sum with flipped signs is the whole sum less twice the flipped part.
        sums = differences.sum(axis=0) - 2.0 * (flips.astype(np.float64) @ differences)
        extreme += (np.abs(sums) >= reached).sum(axis=0)
    return (1 + extreme) / (1 + permutations)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return Holm's (1979) step-down adjusted p-values; NaN (no test) stays NaN and is not counted.

    Adjusted p-values below alpha keep the family-wise error of all of them below alpha.
    """
    from statsmodels.stats.multitest import multipletests

    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(p_values, np.nan)
    tested = np.isfinite(p_values)
    if tested.any():
        adjusted[tested] = multipletests(p_values[tested], method="holm")[1]
    return adjusted


def effect_sizes(differences: np.ndarray) -> np.ndarray:
    """Return Cohen's d_z [S]: mean over standard deviation (n - 1) of `differences` [Q, S].

    All differences 0 give 0; no variance otherwise, or a single query, gives NaN.
    """
    differences = _checked(differences)
    sizes = np.full(differences.shape[1], np.nan)
    sizes[(np.abs(differences) <= TIE).all(axis=0)] = 0.0
    varied = np.ptp(differences, axis=0) > TIE
    if varied.any():
        part = differences[:, varied]
        sizes[varied] = part.mean(axis=0) / part.std(axis=0, ddof=1)
    return sizes


def _checked(differences: np.ndarray) -> np.ndarray:
    differences = np.asarray(differences, dtype=np.float64)
    if differences.ndim != 2 or not len(differences):
        raise ValueError(
            f"differences must be [queries, systems] with a query, got {differences.shape}"
        )
    if not np.isfinite(differences).all():
        raise ValueError("differences must be finite: a system that failed cannot be tested")
    return differences
