"""What a caller may hand over as passages, and what a ranking gives back.

Enters: strings, dicts, or anything with `id`, `title` and `text`. Leaves: `Candidate`s, checked,
and `Ranked`s.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from configs.formats.checks import (
    as_list,
    check_count,
    check_queries,
    is_blank,
    named_type,
    query_name,
    text_fault,
)
from configs.formats.fields import ID_FIELDS, TEXT_FIELDS, text_fields

_FIELDS = (*ID_FIELDS, "title", *TEXT_FIELDS)


class Candidate(NamedTuple):
    """A passage to rank; `given` is the caller's own object."""

    id: str
    title: str
    text: str
    given: Any

    @property
    def is_blank(self) -> bool:
        """Whether neither title nor text has a visible character."""
        return is_blank(self.text) and is_blank(self.title)


class Ranked(NamedTuple):
    """A ranked passage: its score (higher is better), its rank from 1 and the one it came with.

    `probability` that it is relevant, where the reranker's settings have a map to one. `stage` says
    what scored it: it was `read`, a coverage was reached without it and it stands by its
    `estimate`, or a cascade's budget ended before and its `first` score counts.
    """

    id: str
    score: float
    rank: int
    original_rank: int
    passage: Any
    probability: float | None = None
    stage: Literal["read", "estimate", "first"] = "read"


def as_candidate(passage: Any, place: int, *, allow_blank: bool = False) -> Candidate:
    """Check `passage` and read its id, title and text; one without an id is called by its place.

    Raises `ValueError` for one that has no text or, unless `allow_blank`, no visible character,
    for text that is not UTF-8, and for a bad id. A `Candidate` is given back as it is.
    """
    found = passage if isinstance(passage, Candidate) else _read(passage, place)
    for name in ("title", "text"):
        if fault := text_fault(getattr(found, name)):
            raise ValueError(f"the {name} has {fault}")
    if found.is_blank and not allow_blank:
        raise ValueError(f"no visible character (id {found.id!r})")
    return found


def as_candidates(
    passages: Iterable[Any], first: int = 0, *, allow_blank: bool = False
) -> list[Candidate]:
    """`as_candidate` of each of `passages`, any iterable; places are counted from `first`.

    Raises `TypeError` for what is no list, and `ValueError` for an empty one, a repeated id, or a
    bad passage, named by its place.
    """
    candidates: list[Candidate] = []
    places: dict[str, int] = {}
    for number, passage in enumerate(as_list("passages", passages, "a list of passages"), first):
        try:
            candidate = as_candidate(passage, number, allow_blank=allow_blank)
        except ValueError as error:
            raise ValueError(f"passage {number}: {error}") from None
        earlier = places.setdefault(candidate.id, number)
        if earlier != number:
            raise ValueError(f"passages {earlier} and {number} have the same id {candidate.id!r}")
        candidates.append(candidate)
    if not candidates:
        raise ValueError("no passages to rank: the list is empty")
    return candidates


def as_requests(
    queries: Iterable[str], passage_lists: Iterable[Iterable[Any]]
) -> tuple[list[str], list[list[Candidate]]]:
    """Checked queries, and the candidates of each.

    Raises `TypeError` or `ValueError` as `check_queries` and `as_candidates`, naming the query
    where there are several.
    """
    asked = check_queries(queries)
    lists = as_list("passages", passage_lists, "a list of lists of passages")
    if len(asked) != len(lists):
        raise ValueError(f"{len(asked)} queries and {len(lists)} lists of passages")
    found = []
    for number, passages in enumerate(lists, 1):
        try:
            found.append(as_candidates(passages))
        except (TypeError, ValueError) as error:
            if len(lists) == 1:
                raise
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{query_name(number, len(lists))}: {error}") from None
    return asked, found


def check_top_k(top_k: int | None) -> None:
    """Raise `TypeError` or `ValueError` for a `top_k` that is neither None nor a count from 1."""
    if top_k is not None:
        check_count("top_k", top_k)


def ranked(
    candidates: Sequence[Candidate],
    scores: Sequence[float],
    probabilities: Sequence[float] | None = None,
    read: Sequence[bool] | None = None,
) -> list[Ranked]:
    """`candidates` by (score descending, id).

    Those not `read` (None: all are) stand by an estimate, which has no probability.
    """
    order = sorted(range(len(candidates)), key=lambda i: (-scores[i], candidates[i].id))
    estimated = {place for place, is_read in enumerate(read or ()) if not is_read}
    return [
        Ranked(
            id=candidates[place].id,
            score=scores[place],
            rank=rank,
            original_rank=place + 1,
            passage=candidates[place].given,
            probability=(
                None if probabilities is None or place in estimated else probabilities[place]
            ),
            stage="estimate" if place in estimated else "read",
        )
        for rank, place in enumerate(order, 1)
    ]


def _read(passage: Any, place: int) -> Candidate:
    if isinstance(passage, str):
        return Candidate(str(place), "", passage, passage)
    fields = passage if isinstance(passage, Mapping) else _attributes(passage)
    found = text_fields(fields)
    return Candidate(str(place) if found.id is None else found.id, found.title, found.text, passage)


def _attributes(passage: Any) -> Mapping[str, Any]:
    fields = {name: getattr(passage, name) for name in _FIELDS if hasattr(passage, name)}
    if not any(name in fields for name in TEXT_FIELDS):
        raise ValueError(
            f"{named_type(passage)}, wanted a string, a dict with 'text' or an object with .text"
        )
    return fields
