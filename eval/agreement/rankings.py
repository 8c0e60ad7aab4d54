"""Correlation of two rankings of the same systems.

Enters: scores [S] of the systems under the truth (human labels) and under a judge.
Leaves: one number; NaN where it is not defined.

    python -c "from eval.agreement.rankings import tau_ap; print(tau_ap([3, 2, 1], [3, 1, 2]))"
"""

from collections.abc import Sequence

import numpy as np

Scores = Sequence[float] | np.ndarray

# Scores closer than this are equal: two systems with the same list differ by rounding alone.
TIE = 1e-12


def kendall_tau_b(truth: Scores, judge: Scores) -> float:
    """Return Kendall's tau-b, which corrects for ties in either ranking."""
    from scipy.stats import kendalltau

    if len(truth) < 2:
        return float("nan")
    return float(kendalltau(dense_ranks(truth), dense_ranks(judge)).statistic)


def spearman(truth: Scores, judge: Scores) -> float:
    """Return Spearman's rank correlation, with average ranks for ties."""
    from scipy.stats import spearmanr

    first, second = dense_ranks(truth), dense_ranks(judge)
    if len(set(first.tolist())) < 2 or len(set(second.tolist())) < 2:
        return float("nan")
    return float(spearmanr(first, second).statistic)


def tau_ap(truth: Scores, judge: Scores) -> float:
    """Return tau_AP of the judge's ranking against the true one (Yilmaz et al., SIGIR 2008).

    2/(n-1) * sum_{i=2..n} C(i)/(i-1) - 1, where C(i) counts the systems above rank i of the
    judge's list that the truth puts above the system at rank i, too: mistakes at the top cost
    more. Ties in either list give the mean over all ways of breaking them at random, in closed
    form (tau_AP,a of Urbano & Marrero, ICTIR 2017). Not symmetric.
    """
    true_ranks, ranks = dense_ranks(truth), dense_ranks(judge)
    systems = len(ranks)
    if systems < 2:
        return float("nan")
    total = 0.0
    for rank in np.unique(ranks):
        above, here = ranks < rank, ranks == rank
        first = int(above.sum()) + 1
        if first == 1:
            # Nobody stands above the first group, and inside a group the orders cancel out.
            continue
        # A member of the group stands at each of its ranks equally often.
        places = np.arange(first, first + int(here.sum()))
        agreement = np.sign(true_ranks[here][:, None] - true_ranks[above][None, :]).sum()
        total += float(agreement) * float(np.mean(1.0 / (places - 1)))
    return total / (systems - 1)


def rank_biased_overlap(truth: Scores, judge: Scores, p: float = 0.9) -> float:
    """Return extrapolated RBO of two full rankings (Webber et al., TOIS 2010, equation 32).

    (1-p)/p * sum_d A_d p^d + A_n p^n, with A_d the agreement of the two prefixes of depth d,
    2 |S_d & L_d| / (|S_d| + |L_d|); systems that tie share the best rank of their group
    (section 4.3 there), so no order among them is invented.
    """
    if not 0 < p < 1:
        raise ValueError(f"p must lie between 0 and 1, got {p}")
    first, second = competition_ranks(truth), competition_ranks(judge)
    depths = np.arange(1, len(first) + 1)
    in_first = first[:, None] <= depths
    in_second = second[:, None] <= depths
    overlap = 2 * (in_first & in_second).sum(0) / (in_first.sum(0) + in_second.sum(0))
    weighted = (1 - p) / p * np.sum(overlap * p ** depths.astype(np.float64))
    return float(weighted + overlap[-1] * p ** len(depths))


def top_k_tau(truth: Scores, judge: Scores, k: int) -> float:
    """Return tau-b among the k truly best systems (more, where the k-th ties with the next)."""
    best = competition_ranks(truth) <= k
    truth, judge = np.asarray(truth)[best], np.asarray(judge)[best]
    return kendall_tau_b(truth, judge) if len(truth) > 1 else float("nan")


def dense_ranks(scores: Scores) -> np.ndarray:
    """Return 1 for the best group of equal scores, 2 for the next, ...: int64 [S]."""
    scores = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    steps = np.diff(-scores[order], prepend=-scores[order][:1]) > TIE
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[order] = 1 + np.cumsum(steps)
    return ranks


def competition_ranks(scores: Scores) -> np.ndarray:
    """Return 1 + the number of systems strictly better: int64 [S]."""
    ranks = dense_ranks(scores)
    return 1 + (ranks[None, :] < ranks[:, None]).sum(axis=1)
