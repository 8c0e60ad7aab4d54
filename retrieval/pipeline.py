"""One query after the other through every stage: search, cosine adapter, reranker.

Enters: a retriever, queries, a filter, a reranker as a callable. Leaves: the hits after each
stage, and how long each took.

    run_pipeline(Retriever.open("my-index"), {"q1": "how to open a file"}, k=100)
"""

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from tqdm import tqdm

from index.records import Hit, Passage
from retrieval.adapter.filters import RelevanceFilter
from retrieval.legs import BY_COSINE, Legs, Search, keep_relevant
from retrieval.own_hits import without_own
from retrieval.retriever import Retriever

FILTER, RERANK = "filter", "rerank"


class Scored(Protocol):
    """What a reranker gives back for one passage; higher is better."""

    @property
    def id(self) -> str:
        """The passage's id."""
        ...

    @property
    def score(self) -> float:
        """Its score."""
        ...


# Takes a query and its passages, best first; gives them back ranked.
Reranker = Callable[[str, Sequence[Passage]], Sequence[Scored]]


@dataclass
class StageHits:
    """The hits of every query after one stage, and the stage's own milliseconds a query.

    `own_hits` counts the queries whose own passage was found, and dropped, by this stage.
    """

    name: str
    hits: dict[str, list[Hit]] = field(default_factory=dict)
    latency_ms: list[float] = field(default_factory=list)
    own_hits: int = 0


def run_pipeline(
    retriever: Retriever,
    queries: Mapping[str, str],
    *,
    k: int = 100,
    search: Search = BY_COSINE,
    relevance_filter: RelevanceFilter | None = None,
    reranker: Reranker | None = None,
    own: AbstractSet[str] = frozenset(),
    group: str | None = None,
) -> list[StageHits]:
    """Run every query by itself, as a user's arrives, and return the stages that ran, in order.

    The first stage has the name of the search's mode. The filter sees at least as many hits as it
    needs to judge one, and cuts among the first `k`; the reranker ranks what is kept. A query of
    which nothing is kept has no hits from there on.
    Queries of `own` do not find the passage that has their own id: one more hit takes its place.
    With `group` hits are documents, as `Retriever.search` groups chunks; the reranker reads each
    one's best chunk.
    """
    first, kept, reranked = StageHits(search.mode), StageHits(FILTER), StageHits(RERANK)
    _warm_up(retriever, queries, search, reranker)
    depth = search.depth(k, relevance_filter)
    for query_id, query in tqdm(queries.items(), desc="queries", unit=" queries", disable=None):
        clock = _Clock()
        vector = None
        if search.needs_vectors(relevance_filter):
            vector = retriever.encode_queries([query])
        is_own = query_id in own
        (found,) = retriever.legs(
            search, [query], vector, k=k + is_own, depth=depth + is_own, group=group
        )
        first.own_hits += is_own and any(
            retriever.document_of(hit.id) == query_id for hit in chain(*found)
        )
        legs = Legs(
            *(
                without_own(hits, query_id, own, None if group else depth, retriever.document_of)
                for hits in found
            )
        )
        found_hits = retriever.merged(search, legs, k, group)
        hits = first.hits[query_id] = retriever.grouped(found_hits, k, group)
        first.latency_ms.append(clock.lap_ms())
        if relevance_filter is not None and vector is not None:
            (found_hits,) = keep_relevant(
                relevance_filter, retriever.index, vector, [legs], [found_hits]
            )
            hits = kept.hits[query_id] = retriever.grouped(found_hits, k, group)
            kept.latency_ms.append(clock.lap_ms())
        if reranker is not None:
            ranking = reranker(query, retriever.passages(hits)) if hits else []
            chunk = {hit.id: hit.chunk for hit in hits}
            reranked.hits[query_id] = [
                Hit(scored.id, scored.score, rank, chunk[scored.id])
                for rank, scored in enumerate(ranking, 1)
            ]
            reranked.latency_ms.append(clock.lap_ms())
    return [first, *([kept] if relevance_filter else []), *([reranked] if reranker else [])]


def _warm_up(
    retriever: Retriever, queries: Mapping[str, str], search: Search, reranker: Reranker | None
) -> None:
    """One query whose time nobody counts: the first call of a model allocates and compiles."""
    for query in list(queries.values())[:1]:
        (hits,) = retriever.search([query], k=1, mode=search.mode, dense_weight=search.dense_weight)
        if reranker is not None and hits:
            reranker(query, retriever.passages(hits))


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap_ms(self) -> float:
        """Milliseconds since the last lap."""
        now = time.perf_counter()
        elapsed, self._last = 1000 * (now - self._last), now
        return elapsed
