"""Rank texts that have no ids: results are told apart by their place in the list.

Enters: a reranker, a query, texts. Leaves: places and scores, best first.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from rerank.candidates import Candidate, as_candidates


class Scorer(Protocol):
    """What the interfaces need of a `BlockRanker`."""

    def scores(self, query: str, candidates: Sequence[Candidate]) -> list[float]:
        """The score of each candidate, in their order; higher is better."""
        ...


class Placed(NamedTuple):
    """A text's place in the list it came in, from 0, and its score (higher is better)."""

    place: int
    score: float


def scores_by_place(ranker: Scorer, query: str, passages: Sequence[Any]) -> list[float]:
    """The score of every passage, in their order; an empty list has none.

    Passages are strings or dicts with `text` and perhaps `title`; the same text may come twice.
    Raises `ValueError` for an empty query or an empty text.
    """
    if not query.strip():
        raise ValueError("the query is empty")
    if not len(passages):
        return []
    return ranker.scores(query, as_candidates(passages))


def rank_by_place(
    ranker: Scorer, query: str, passages: Sequence[Any], top_k: int | None = None
) -> list[Placed]:
    """The best `top_k` passages (None: all) by (score descending, place).

    Raises `ValueError` for an empty query or text, or a `top_k` below 1.
    """
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}, wanted at least 1")
    scores = scores_by_place(ranker, query, passages)
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    return [Placed(place, scores[place]) for place in order[:top_k]]
