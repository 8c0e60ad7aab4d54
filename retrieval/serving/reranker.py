"""What the service asks of a reranker, and how it finds one.

Enters: the names of an entry point and of a model. Leaves: a `Reranker`. An entry point of the
group `blockseek.rerankers` is a function that takes a model's name and, as `device`, where it runs:
BlockRank's is called `blockrank`, and others' packages may add their own.

    reranker = load_reranker("mini")
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

GROUP = "blockseek.rerankers"
DEFAULT_RERANKER = "blockrank"
# A document to rank: its `text` and perhaps its `title`.
Document = Mapping[str, str]


class PassageScores(Protocol):
    """What one query's documents get, in their order."""

    @property
    def scores(self) -> Sequence[float]:
        """What ranks them; higher is better."""
        ...

    @property
    def relevance(self) -> Sequence[float]:
        """What a client is told: a probability where there is one, else the score."""
        ...


class TokenMass(Protocol):
    """A token's share of the attention; it stands at characters [start, end) of `field`."""

    field: str
    start: int
    end: int
    mass: float


class Highlights(Protocol):
    """What one document's tokens get, in reading order."""

    @property
    def tokens(self) -> Sequence[TokenMass]:
        """The tokens of title and text."""
        ...


class Reranker(Protocol):
    """A loaded reranker. One thread calls it; it raises `ValueError` for what it can't read."""

    name: str

    @property
    def cached_passages(self) -> int:
        """How many passages it has read before, 0 where none."""
        ...

    def with_cache(self, folder: Path) -> "Reranker":
        """Itself over the passages that a folder keeps; `ValueError` where they don't fit it."""
        ...

    def keeping(self, num_bytes: int) -> "Reranker":
        """Itself, keeping in so many bytes what it read of documents that come again.

        It changes no score; where it would, or is of no use, it is itself as it was.
        """
        ...

    def rerank_batch(
        self, queries: Sequence[str], document_lists: Sequence[Sequence[Document]]
    ) -> Sequence[PassageScores]:
        """The scores of each query's documents; what is asked beside a query changes none."""
        ...

    def count_tokens(self, query: str, documents: Sequence[Document]) -> int:
        """How many tokens a rerank of `documents` reads."""
        ...

    def highlights(self, query: str, documents: Sequence[Document]) -> Sequence[Highlights]:
        """Where in each document the attention falls."""
        ...

    def cut(self, document: Document, max_tokens: int | None) -> Document:
        """`document` with at most `max_tokens` tokens of its text."""
        ...


def load_reranker(
    model: str, *, entry_point: str = DEFAULT_RERANKER, device: str | None = None
) -> Reranker:
    """The reranker `model`, by the entry point of that name.

    Raises `ValueError` when there is no such entry point, or no such model.
    """
    found = {each.name: each for each in entry_points(group=GROUP)}
    if entry_point not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ValueError(
            f"no reranker is called {entry_point!r} (there are: {known}): install the package "
            f"that has it in its entry points {GROUP}; for blockrank, blockseek again"
        )
    reranker: Any = found[entry_point].load()(model, device=device)
    loaded: Reranker = reranker
    return loaded
