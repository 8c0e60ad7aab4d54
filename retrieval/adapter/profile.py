"""What a query's own scores say about it: the score profile as a short feature vector.

Enters: descending scores of each query. Leaves: float32 [Q, features], NaN where a list is too
short to know.

    score_profile(hits, depth=20)
"""

import numpy as np

from retrieval.adapter.hits import Hits

_RANKS = (2, 3, 5, 10, 20, 50, 100)


def profile_names(depth: int) -> list[str]:
    """Names of the features of a profile over the first `depth` scores."""
    drops = [f"drop_to_{rank}" for rank in _RANKS if rank <= depth]
    return ["first", *drops, "mean", "spread", "skew", "largest_gap", "gap_rank", "count"]


def score_profile(hits: Hits, depth: int) -> np.ndarray:
    """Features of each query's first `depth` scores, float32 [Q, len(profile_names(depth))].

    Only the first `depth` scores are read, so asking for more hits changes nothing. `first` is the
    top score; `drop_to_r` its distance to rank r; `mean`, `spread` (standard deviation) and `skew`
    are moments; `largest_gap` the largest step between neighbours and `gap_rank` the logarithm of
    the rank before it; `count` the logarithm of 1 + the scores seen. What a list is too short for
    is NaN, which the network replaces by its training mean.
    """
    columns = max(1, min(depth, int(hits.counts.max(initial=0))))
    seen = hits.rank_of_hit < columns
    table = np.full((hits.queries, columns), np.nan)
    table[hits.query_of_hit[seen], hits.rank_of_hit[seen]] = hits.scores[seen]
    count = np.minimum(hits.counts, columns)
    known = count > 0
    total = np.where(known, count, 1)

    first = table[:, 0]
    drops = [
        first - table[:, rank - 1] if rank <= columns else np.full(hits.queries, np.nan)
        for rank in _RANKS
        if rank <= depth
    ]
    mean = np.where(known, np.nansum(table, axis=1) / total, np.nan)
    centred = table - mean[:, None]
    spread = np.sqrt(np.nansum(centred**2, axis=1) / total)
    skew = np.nansum(centred**3, axis=1) / total / np.maximum(spread, 1e-6) ** 3
    largest, gap_rank = np.full(hits.queries, np.nan), np.full(hits.queries, np.nan)
    stepped = count > 1
    if stepped.any():
        gaps = np.where(np.isnan(table[:, 1:]), -1.0, table[:, :-1] - table[:, 1:])[stepped]
        largest[stepped] = gaps.max(axis=1)
        gap_rank[stepped] = np.log1p(gaps.argmax(axis=1))
    spread, skew = np.where(known, spread, np.nan), np.where(stepped, skew, np.nan)
    features = [first, *drops, mean, spread, skew, largest, gap_rank, np.log1p(count)]
    return np.stack(features, axis=1).astype(np.float32)
