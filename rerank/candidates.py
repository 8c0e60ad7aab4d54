"""What a caller may hand over as passages, and what a ranking gives back.

Enters: strings, dicts, or anything with `id`, `title` and `text`. Leaves: `Candidate`s, checked,
and `Ranked`s.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ID_FIELDS = ("id", "_id", "docid")
TEXT_FIELDS = ("text", "contents")


class Candidate(NamedTuple):
    """A passage to rank; `given` is the caller's own object."""

    id: str
    title: str
    text: str
    given: Any


class Ranked(NamedTuple):
    """A ranked passage: its score (higher is better), its rank from 1 and the one it came with.

    `probability` that it is relevant, where the reranker's settings have a map to one.
    """

    id: str
    score: float
    rank: int
    original_rank: int
    passage: Any
    probability: float | None = None


def as_candidates(passages: Sequence[Any], first: int = 0) -> list[Candidate]:
    """Check `passages` and read their ids, titles and texts.

    A string's id is its place in the list, counted from `first`. Raises `ValueError` for an
    empty list, an empty passage, a repeated id, or an object that has no text.
    """
    if isinstance(passages, str | Mapping):
        raise ValueError(f"passages is one {type(passages).__name__}, wanted a list of passages")
    if not len(passages):
        raise ValueError("no passages to rank: the list is empty")
    candidates = [_candidate(number, passage) for number, passage in enumerate(passages, first)]
    places: dict[str, int] = {}
    for number, candidate in enumerate(candidates, first):
        if not candidate.text.strip() and not candidate.title.strip():
            raise ValueError(f"passage {number} (id {candidate.id!r}) has no text")
        if candidate.id in places:
            earlier = places[candidate.id]
            raise ValueError(f"passages {earlier} and {number} have the same id {candidate.id!r}")
        places[candidate.id] = number
    return candidates


def ranked(
    candidates: Sequence[Candidate],
    scores: Sequence[float],
    probabilities: Sequence[float] | None = None,
) -> list[Ranked]:
    """`candidates` by (score descending, id)."""
    order = sorted(range(len(candidates)), key=lambda i: (-scores[i], candidates[i].id))
    return [
        Ranked(
            id=candidates[place].id,
            score=scores[place],
            rank=rank,
            original_rank=place + 1,
            passage=candidates[place].given,
            probability=None if probabilities is None else probabilities[place],
        )
        for rank, place in enumerate(order, 1)
    ]


def _candidate(number: int, passage: Any) -> Candidate:
    if isinstance(passage, str):
        return Candidate(str(number), "", passage, passage)
    fields = passage if isinstance(passage, Mapping) else _attributes(passage)
    id_ = next((fields[name] for name in ID_FIELDS if name in fields), number)
    text = next((fields[name] for name in TEXT_FIELDS if name in fields), None)
    title = fields.get("title", "")
    if not isinstance(text, str) or not isinstance(title or "", str):
        raise ValueError(
            f"passage {number} is a {type(passage).__name__} without a text; wanted a string, "
            f"a dict with 'text', or an object with .text"
        )
    return Candidate(str(id_), title or "", text, passage)


def _attributes(passage: Any) -> Mapping[str, Any]:
    names = (*ID_FIELDS, "title", *TEXT_FIELDS)
    return {name: getattr(passage, name) for name in names if hasattr(passage, name)}
