"""Language models that answer prompts: one that runs here, one behind an endpoint, and their cache.

A reader yields (index of the prompt, what it answered or a `Failure`) in any order.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol


class Prompt(NamedTuple):
    """What is asked: an instruction (may be empty) and the user's text."""

    system: str
    user: str


class Failure(NamedTuple):
    """No answer, and why. It is counted and listed, and never becomes a number."""

    reason: str


class Reader(Protocol):
    """A language model. `identity` names it and everything that changes its answers."""

    identity: str

    def answers(
        self, prompts: Sequence[Prompt], max_tokens: int
    ) -> Iterator[tuple[int, str | Failure]]:
        """Yield the most likely text after each prompt, at most `max_tokens` long."""
        ...

    def first_token_probabilities(
        self, prompts: Sequence[Prompt], texts: Sequence[str]
    ) -> Iterator[tuple[int, list[float] | Failure]]:
        """Yield, for each prompt, the probability that the answer opens as each of `texts`."""
        ...
