"""Search a FAISS index, and score again with whole vectors what it gives.

Enters: an index, the vectors it was built of, queries. Leaves: row numbers and inner products
(= cosines) of the best k of each query and of all that tie with the k-th.
"""

from collections.abc import Iterator
from itertools import pairwise

import faiss
import numpy as np

from index.dense.kinds import has_exact_scores
from index.dense.products import Found, Vectors, pair_products, rounding, search_rows
from index.dense.selection import Selection

# Rows fetched beyond k, so that what ties with the k-th is seen and the tie broken by id.
SPARE = 16
# Codes of compressed vectors order the top only roughly: fetch more and score them exactly.
RESCORE_FACTOR = 10
# Where so few rows are live, or so small a share of all, their vectors are compared.
_FEW, _FEW_OF = 20_000, 100


def search_faiss(
    built: faiss.Index,
    factory: str,
    vectors: Vectors,
    queries: np.ndarray,
    k: int,
    live: np.ndarray | None = None,
) -> list[Found]:
    """The rows and inner products of the best `k` of each query and all that tie with the k-th.

    Rows where `live`, bool [n], is False are passed over; where few are live, the vectors of all of
    them are compared. An index that keeps codes orders its top only roughly, so more of it is
    fetched. Fewer than `k` come only where fewer are live. `Flat` gives exactly the best of all.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    nothing = np.empty(0, np.int64), np.empty(0, np.float32)
    results: list[Found] = [nothing] * len(queries)
    alive = len(vectors) if live is None else int(np.count_nonzero(live))
    k = min(k, alive)
    if not k or not len(queries):
        return results
    exact = has_exact_scores(factory)
    enough = fetched = k + SPARE if exact else k * RESCORE_FACTOR
    few = live is not None and alive <= max(_FEW, len(vectors) // _FEW_OF)
    selection = None if few else Selection(built, live)
    open_, short = np.arange(len(queries)), [np.empty(0, np.int64)]
    while selection and len(open_) and fetched < alive:
        asked = queries if len(open_) == len(queries) else queries[open_]
        theirs, rows = selection.search(asked, fetched)
        if rows.max() >= len(vectors):
            raise ValueError(f"the FAISS index is damaged: it has a row {rows.max()}")
        there = rows >= 0 if live is None else (rows >= 0) & live[rows]
        ended = rows[:, -1] < 0  # its lists, or what its graph leads to, hold no more
        counts = there.sum(axis=1)
        off = rounding(asked)
        close = there & _may_be_best(theirs, there, k, off) if exact else there
        scores = np.full(rows.shape, -np.inf, np.float32)
        scores[close] = pair_products(vectors, rows[close], asked, np.nonzero(close)[0])
        kth = _kth_best(scores, k)
        kept = close & (scores >= kth[:, None])
        if exact:  # what was not fetched scores no higher than this
            tied = theirs[:, -1] + off >= kth
        else:  # as far as is known, no higher than the lowest that was
            tied = counts == kept.sum(axis=1)
        again = ~ended & ((counts < enough) | tied)
        for place, pair in zip(open_, _by_query(rows, scores, kept), strict=True):
            results[place] = pair
        short.append(open_[ended & (counts < k)])
        open_, fetched = open_[again], 2 * fetched
    left = np.concatenate([open_, *short])
    if len(left):
        among = np.arange(len(vectors)) if live is None else np.flatnonzero(live)
        for place, pair in zip(left, search_rows(vectors, among, queries[left], k), strict=True):
            results[place] = pair
    return results


def _kth_best(scores: np.ndarray, k: int) -> np.ndarray:
    """The `k`-th best of each query's scores [q, n], n >= k; -inf where there are fewer."""
    kth: np.ndarray = np.partition(scores, -k, axis=1)[:, -k]
    return kth


def _by_query(rows: np.ndarray, scores: np.ndarray, kept: np.ndarray) -> Iterator[Found]:
    """Of rows and scores [q, n] those that are kept, query by query."""
    ends = np.cumsum(kept.sum(axis=1)).tolist()
    rows, scores = rows[kept], scores[kept]
    for start, end in pairwise([0, *ends]):
        yield rows[start:end], scores[start:end]


def _may_be_best(theirs: np.ndarray, there: np.ndarray, k: int, off: np.ndarray) -> np.ndarray:
    """Which of FAISS's scores [q, n] may be among the best `k` by our products, bool [q, n].

    A row that is worse than the k-th by more than both products may be `off` is not.
    """
    kth = _kth_best(np.where(there, theirs, -np.inf), k)
    may_be: np.ndarray = theirs >= (kth - 2 * off)[:, None]
    return may_be
