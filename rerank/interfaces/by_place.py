"""Rank texts that have no ids: results are told apart by their place in the list.

Enters: a reranker, a query, texts. Leaves: places and scores, best first. A text without a visible
character sinks nobody's list: it is not read, comes last
(`rerank.scoring.scores.with_unread_last`), and a `BlankPassagesWarning` counts it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from configs.formats.checks import as_list, check_query
from rerank.cache.recent import RecentPassages
from rerank.prompt.candidates import Candidate, as_candidates, check_top_k
from rerank.ranker import BlockRanker
from rerank.scoring.scores import with_unread_last
from rerank.warned import BlankPassagesWarning, warn_caller


class Placed(NamedTuple):
    """A text's place in the list it came in, from 0, and its score (higher is better)."""

    place: int
    score: float


def rank_by_place(
    ranker: BlockRanker, query: str, passages: Iterable[Any], top_k: int | None = None
) -> list[Placed]:
    """The best `top_k` passages (None: all) by (score descending, place), blank ones last.

    Passages are strings or dicts with `text` and perhaps `title`; the same text may come twice, and
    an empty list has no best. Raises `TypeError` or `ValueError` for an empty query, what is no
    text, and a bad `top_k`.
    """
    check_top_k(top_k)
    check_query(query)
    listed = as_list("passages", passages, "a list of passages")
    candidates = as_candidates(listed, allow_blank=True) if listed else []
    (scores,) = scores_with_blanks(ranker, [query], [candidates])
    order = sorted(
        range(len(scores)), key=lambda place: (-scores[place], candidates[place].is_blank, place)
    )
    return [Placed(place, scores[place]) for place in order[:top_k]]


def scores_with_blanks(
    ranker: BlockRanker | RecentPassages,
    queries: Sequence[str],
    lists: Sequence[Sequence[Candidate]],
) -> list[list[float]]:
    """The scores of each query's candidates, in their order; warns of those that are blank."""
    blank = [[candidate.is_blank for candidate in candidates] for candidates in lists]
    count = sum(map(sum, blank))
    if count:
        warn_caller(
            f"{count} of {sum(map(len, lists))} passages have no visible character: they come last",
            BlankPassagesWarning,
        )
    read = [[candidate for candidate in each if not candidate.is_blank] for each in lists]
    asked = [number for number, candidates in enumerate(read) if candidates]
    found = ranker.scores_batch([queries[n] for n in asked], [read[n] for n in asked])
    scores = dict(zip(asked, found, strict=True))
    return [
        with_unread_last(_spread(scores.get(number, []), marks), marks, ranker.settings)
        for number, marks in enumerate(blank)
    ]


def _spread(scores: Iterable[float], blank: Sequence[bool]) -> list[float]:
    """`scores` at the places that are not `blank`."""
    remaining = iter(scores)
    return [0.0 if mark else next(remaining) for mark in blank]
