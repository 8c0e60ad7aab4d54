"""Lists that no one prompt holds, scored by shares of the attention to all: groups, then a final.

Enters: a prompt longer than the budget, and what reads one that fits. Leaves: a score a passage.

1. **Groups.** The passages are dealt into as few groups of about equal size as fit, in the order of
   a hash of their tokens: which passages meet doesn't depend on the order they were given in.
   Passages with the same tokens are read once and share their score.
2. **Union.** A passage's keys depend on no other passage, so the log-sum-exps of all groups are put
   under one softmax, mass_b = exp(lse_b - lse_all). Exact but for one thing: a query block that
   attends to passages has read its group alone, where in one prompt it would have read all. Where
   it does not attend, this is all.
3. **Final.** The best of the union, as many as fit, are read once more together: their order among
   themselves is that of one prompt. They share out what the union gave them above the best of the
   rest, cut + (total - n * cut) * mass, so none of them falls below a passage that was left out.

What is approximate is who comes into the final, and the order of the rest. Scores add up to 1 when
no two passages have the same tokens. Memory is bounded by the budget: of a group only its
log-sum-exps stay.
"""

import hashlib
import math
from array import array
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from rerank.prompt.packing import BlockTokens, PromptTokens
from rerank.scoring.scores import LogSums, mass_scores

Read = Callable[[PromptTokens], LogSums]
Key = TypeVar("Key", bytes, int)


def grouped_scores(
    prompt: PromptTokens, max_tokens: int, read: Read, attends: bool = True
) -> list[float]:
    """The scores of the passages of `prompt`, in their order; `read` is given `max_tokens` each.

    `attends` says whether the query block reads the passages: without, there is no final. Every
    group holds at least one passage, so a passage that alone is too long is read all the same.
    """
    keys = [_digest(passage) for passage in prompt.passages]
    distinct = {key: place for place, key in enumerate(keys)}
    order = sorted(distinct)
    blocks = [prompt.passages[distinct[key]] for key in order]
    budget = max_tokens - len(prompt.instruction.ids) - len(prompt.query.ids)
    sums = [
        read(prompt._replace(passages=blocks[group.start : group.stop]))
        for group in even_groups([len(block.ids) for block in blocks], budget)
    ]
    places = {key: number for number, key in enumerate(order)}
    rows = torch.tensor([places[key] for key in keys])
    union = union_scores(sums, rows)
    if not attends:
        return union
    merged = dict(zip(keys, union, strict=True))
    chosen = finalists(order, merged, [len(block.ids) for block in blocks], budget)
    if len(chosen) > 1:
        final = read(prompt._replace(passages=[blocks[places[key]] for key in chosen]))
        masses = dict(zip(chosen, mass_scores(final).tolist(), strict=True))
        merged |= shared_out(merged, masses)
    return [merged[key] for key in keys]


def even_groups(lengths: Sequence[int], budget: int) -> list[range]:
    """Runs of `lengths` that add up to at most `budget` each, about equal, none of them empty."""
    room = budget - max(lengths)
    if room <= 0:
        return [range(place, place + 1) for place in range(len(lengths))]
    total = sum(lengths)
    count = math.ceil(total / room)
    groups: list[range] = []
    start, group, before = 0, 0, 0
    for place, length in enumerate(lengths):
        if before * count // total != group and place > start:
            groups.append(range(start, place))
            start = place
        group = before * count // total
        before += length
    return [*groups, range(start, len(lengths))]


def union_scores(sums: Sequence[LogSums], rows: torch.Tensor | None = None) -> list[float]:
    """The masses of the passages `rows` (None: each) of all groups under one softmax."""
    values = torch.cat([part.values for part in sums])
    values = values if rows is None else values[rows]
    scores: list[float] = mass_scores(LogSums(values, sums[0].weights)).tolist()
    return scores


def finalists(
    order: Sequence[Key], merged: dict[Key, float], lengths: Sequence[int], budget: int
) -> list[Key]:
    """The best in turn until one doesn't fit; equal ones in the order of their keys."""
    chosen = []
    for score, key, length in sorted(
        (-merged[key], key, length) for key, length in zip(order, lengths, strict=True)
    ):
        del score
        budget -= length
        if budget < 0:
            break
        chosen.append(key)
    return chosen


def shared_out(merged: dict[Key, float], masses: dict[Key, float]) -> dict[Key, float]:
    """New scores of the finalists; sums are exact, so no order of the passages changes them."""
    cut = max((score for key, score in merged.items() if key not in masses), default=0.0)
    above = math.fsum([merged[key] for key in masses] + [-cut] * len(masses))
    return {key: cut + above * mass for key, mass in masses.items()}


def _digest(block: BlockTokens) -> bytes:
    return hashlib.sha256(array("q", block.ids).tobytes()).digest()
