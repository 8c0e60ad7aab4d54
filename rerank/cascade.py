"""Lists far longer than what may be read: the best by a first score are read, the rest is not.

Enters: candidates, a first score of each, a budget. Leaves: a ranking that says what scored whom.

1. Candidates stand by (first score descending, id).
2. They are read from the top, as long as the next one fits the budget: `tokens` bounds instruction,
   query and passages together. (Content-free calibration reads them twice, and a list beyond
   `max_tokens` has a final: that is not counted.) Only these are tokenized, so time grows with the
   budget. They are ranked among themselves as a list of their own would be.
3. The rest keeps its order below them. Its scores go on from the lowest one that was read, less
   what a first score lacks to the lowest first score of those: they only order.

So no passage that was not read passes one that was. Where reading turns the first order round,
beyond what chance does, a `CascadeWarning` says so: a reranker that does not suit the texts is then
worse than the first stage, and nothing else would show it.

A budget in `milliseconds` is one in tokens, after a short read of the best has shown how many a
millisecond takes; it is a target, no bound, and depends on what else the machine does.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from configs.formats.checks import as_list, check_count
from rerank.prompt.candidates import Candidate, Ranked, ranked
from rerank.prompt.packing import PromptTokens
from rerank.warned import warn_caller

# Candidates that one call of the tokenizer reads.
_WINDOW = 64
# What is read to see how fast it goes.
_PROBE_TOKENS = 512
# How rarely chance alone may turn so many pairs round for a warning.
_CHANCE = 0.05


class CascadeWarning(UserWarning):
    """Reading orders the best candidates rather against their first scores than with them."""


class Budget(NamedTuple):
    """How much may be read: one of `tokens` and `milliseconds`; the other is None."""

    tokens: int | None
    milliseconds: float | None

    @classmethod
    def of(cls, tokens: int | None, milliseconds: float | None) -> "Budget | None":
        """The budget of a call's arguments; raises `TypeError` or `ValueError` for bad ones."""
        if tokens is None and milliseconds is None:
            return None
        if tokens is not None and milliseconds is not None:
            raise ValueError("budget_tokens and budget_ms: give one of them")
        if tokens is not None:
            check_count("budget_tokens", tokens)
        elif not (isinstance(milliseconds, int | float) and 0 < milliseconds < math.inf):
            raise ValueError(f"budget_ms is {milliseconds!r:.80}, wanted a number above 0")
        return cls(tokens, milliseconds)


class Reader(Protocol):
    """What reads candidates: a reranker."""

    def rerank(self, query: str, passages: Iterable[Any]) -> list[Ranked]:
        """The ranking of a list."""
        ...

    def prompts(
        self, queries: Sequence[str], candidate_lists: Sequence[Sequence[Candidate]]
    ) -> list[PromptTokens]:
        """The tokens of each query's prompt."""
        ...

    def token_counts(self, passages: Iterable[Any]) -> list[int]:
        """How many tokens are read of each passage."""
        ...


def checked_scores(scores: Iterable[float], count: int) -> list[float]:
    """`scores` as `count` finite numbers; raises `TypeError` or `ValueError` for anything else."""
    found = as_list("first_scores", scores, "a list of numbers")
    if len(found) != count:
        raise ValueError(f"{len(found)} first_scores for {count} passages")
    try:
        values = [float(score) for score in found]
    except (TypeError, ValueError):
        raise TypeError("first_scores holds something that is no number") from None
    for place, value in enumerate(values):
        if not math.isfinite(value):
            raise ValueError(f"the first score of passage {place} is {value}, wanted a finite one")
    return values


def in_given_order(results: Iterable[Ranked]) -> list[float]:
    """The scores of `results`, all of a list, as the passages were given."""
    return [result.score for result in sorted(results, key=lambda result: result.original_rank)]


def cascaded(
    reader: Reader,
    query: str,
    candidates: Sequence[Candidate],
    first: Sequence[float],
    budget: Budget,
    clock: Callable[[], float] = time.perf_counter,
    rank: Callable[[str, Sequence[Candidate]], list[Ranked]] | None = None,
) -> list[Ranked]:
    """All of `candidates`, whose scores are `first`, as the module says; `clock` gives seconds.

    `rank` reads the best in place of `reader.rerank`. Raises `ValueError` where the budget holds no
    passage.
    """
    rank = rank or reader.rerank
    order = [each.original_rank - 1 for each in ranked(candidates, first)]
    lengths = _Lengths(reader, query, [candidates[place] for place in order])
    best: list[Ranked] = []
    if budget.tokens is not None:
        count = lengths.fit(budget.tokens)
        if count == 0:
            raise ValueError(
                f"budget_tokens is {budget.tokens}: the query with its instruction and the best "
                f"passage take {lengths.upto(1)}; raise it"
            )
    else:
        assert budget.milliseconds is not None
        begun = clock()
        count = max(1, lengths.fit(_PROBE_TOKENS))
        best = rank(query, [candidates[place] for place in order[:count]])
        taken = 1000 * (clock() - begun)
        affordable = (budget.milliseconds - taken) * lengths.upto(count) / max(taken, 1e-3)
        count = max(count, lengths.fit(int(affordable)))
    if len(best) != count:
        best = rank(query, [candidates[place] for place in order[:count]])
    _tell_where_turned(best)
    read = [each._replace(original_rank=order[each.original_rank - 1] + 1) for each in best]
    lowest, cut = read[-1].score, first[order[count - 1]]
    rest = [
        Ranked(
            id=candidates[place].id,
            score=lowest - (cut - first[place]),
            rank=rank,
            original_rank=place + 1,
            passage=candidates[place].given,
            stage="first",
        )
        for rank, place in enumerate(order[count:], count + 1)
    ]
    return read + rest


class _Lengths:
    """How many tokens a prompt with the first candidates has; no more are tokenized than asked."""

    def __init__(self, reader: Reader, query: str, candidates: Sequence[Candidate]) -> None:
        self._totals = self._count(reader, query, candidates)
        self._known: list[int] = []

    def upto(self, count: int) -> int:
        """The tokens of the query, its instruction and the first `count` candidates."""
        while len(self._known) <= count:
            self._known.append(next(self._totals))
        return self._known[count]

    def fit(self, tokens: int) -> int:
        """How many of the first candidates fit `tokens`."""
        count = 0
        try:
            while self.upto(count + 1) <= tokens:
                count += 1
        except StopIteration:
            pass
        return count

    @staticmethod
    def _count(reader: Reader, query: str, candidates: Sequence[Candidate]) -> Iterator[int]:
        (asked,) = reader.prompts([query], [[]])
        total = asked.num_tokens
        yield total
        for start in range(0, len(candidates), _WINDOW):
            for length in reader.token_counts(candidates[start : start + _WINDOW]):
                total += length
                yield total


def _tell_where_turned(best: Sequence[Ranked]) -> None:
    """Warn where more pairs of `best`, who came in the first order, are turned round than kept.

    What chance would do to two orders that have nothing in common is not told.
    """
    from scipy.stats import kendalltau

    if len(best) < 3:
        return
    found = kendalltau([each.rank for each in best], [each.original_rank for each in best])
    if found.statistic < 0 and found.pvalue < _CHANCE:
        warn_caller(
            f"reading turned the order of the first scores round among the best {len(best)} "
            f"(Kendall's tau {found.statistic:.2f}): see whether the reranker suits these texts",
            CascadeWarning,
        )
