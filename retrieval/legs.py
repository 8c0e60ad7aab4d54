"""The two legs of a search, cosines and words, and how they go together.

Enters: an open index, queries and their vectors. Leaves: each leg's hits, and the hits of the mode.

    search = Search("hybrid")
    (legs,) = search.legs(index, ["apple trees"], vectors, depth=100)
    search.merged(legs, k=10)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from index.records import Hit
from index.store.metadata import Where
from retrieval.adapter.filters import RelevanceFilter
from retrieval.backend import SearchableIndex
from retrieval.fusion import reciprocal_rank_fusion, weighted_sum

DENSE, LEXICAL, HYBRID = MODES = ("dense", "lexical", "hybrid")
# Of each leg so many hits are fused at least: the first ten are the same whether ten or a hundred
# are asked for.
_FUSED = 100


class Legs(NamedTuple):
    """One query's hits by cosine and by words; empty for a leg that was not asked."""

    dense: list[Hit]
    lexical: list[Hit]


@dataclass(frozen=True)
class Search:
    """How hits are found: by `mode`, and where that is hybrid by which fusion.

    With `dense_weight` None reciprocal ranks are added up; a weight w in [0, 1] adds w times the
    cosines and 1 - w times the BM25 scores, each laid over [0, 1] (`weighted_sum`).
    """

    mode: str = DENSE
    dense_weight: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"the mode is {self.mode!r:.80}, wanted {', '.join(MODES)}")
        if self.dense_weight is None:
            return
        if self.mode != HYBRID:
            raise ValueError(f"dense_weight is of hybrid search, the mode is {self.mode}")
        if not 0 <= self.dense_weight <= 1:
            raise ValueError(f"dense_weight is {self.dense_weight}, wanted 0 to 1")

    def depth(self, k: int, relevance_filter: RelevanceFilter | None) -> int:
        """How many hits of each leg `k` hits are made of, and judged by the filter."""
        needed = relevance_filter.needed_hits if relevance_filter else 0
        return max(k, needed, _FUSED if self.mode == HYBRID else 0)

    def needs_vectors(self, relevance_filter: RelevanceFilter | None) -> bool:
        """Whether the dense leg is asked: a filter judges cosines, whatever found the passages."""
        return self.mode != LEXICAL or relevance_filter is not None

    def legs(
        self,
        index: SearchableIndex,
        queries: Sequence[str],
        vectors: np.ndarray | None,
        depth: int,
        where: Where | None = None,
    ) -> list[Legs]:
        """The `depth` best hits of each leg for each query; `vectors` [n, d] None: no dense leg.

        Of passages that the condition `where` keeps, if there is one. Raises `ValueError` where
        words are asked for and the index has none, and as `DenseIndex.where`.
        """
        none: list[list[Hit]] = [[] for _ in queries]
        lexical = none if self.mode == DENSE else index.search_words(queries, depth, where)
        dense = none if vectors is None else index.search(vectors, depth, where)
        return list(map(Legs, dense, lexical))

    def merged(self, legs: Legs, k: int) -> list[Hit]:
        """The `k` best hits of the mode."""
        if self.mode != HYBRID:
            return (legs.dense if self.mode == DENSE else legs.lexical)[:k]
        rankings = [{hit.id: hit.score for hit in hits} for hits in legs]
        if self.dense_weight is None:
            fused = reciprocal_rank_fusion(rankings, k)
        else:
            fused = weighted_sum(rankings, (self.dense_weight, 1 - self.dense_weight), k)
        return [Hit(id_, score, rank) for rank, (id_, score) in enumerate(fused.items(), 1)]


BY_COSINE = Search()


def keep_relevant(
    relevance_filter: RelevanceFilter,
    index: SearchableIndex,
    vectors: np.ndarray,
    legs: Sequence[Legs],
    found: Sequence[list[Hit]],
) -> list[list[Hit]]:
    """Of each query's hits `found` those that the filter keeps, judged by their cosines.

    `vectors` are the queries' rows [n, d]. A hit that the dense leg did not give gets its exact
    cosine. The filter reads the dense hits too, however deep they are: they are a query's profile.
    """
    cosines = []
    for vector, each, hits in zip(vectors, legs, found, strict=True):
        known = {hit.id: hit.score for hit in each.dense}
        others = [hit.id for hit in hits if hit.id not in known]
        if others:
            known |= zip(others, index.cosines(vector, others).tolist(), strict=True)
            known = dict(sorted(known.items(), key=lambda pair: (-pair[1], pair[0])))
        cosines.append(known)
    scores = [np.array(list(known.values()), np.float32) for known in cosines]
    masks = relevance_filter.keep(vectors, scores)
    kept = [
        {id_ for id_, keep in zip(known, mask, strict=True) if keep}
        for known, mask in zip(cosines, masks, strict=True)
    ]
    return [[hit for hit in hits if hit.id in ids] for hits, ids in zip(found, kept, strict=True)]
