"""Coverage: the passages that take most of the attention are read to the end, the rest is not.

Enters: prompts, and a share of the attention (or a number of passages) that is to be read. Leaves:
a score a passage, and whether it was read or stands by its estimate.

1. **Estimate.** All passages are read up to `coverage_layer`, as they must be: the mass that each
   gets from the signal tokens there, normalised over the list.
2. **Choice.** The smallest set of passages whose estimates reach the share; equal ones stand or
   fall together, so that no order of the passages decides.
3. **Read.** The layers above run with the chosen passages alone, and their masses are read where
   scores are always read.
4. **Join.** The chosen ones share out what the estimate gave them above the best of the rest,
   cut + (total - n * cut) * mass, as the finalists of groups do (`rerank.scoring.groups`): none
   falls below a passage that was not read, and all scores add up to 1.

With a share of 1, or where every passage is chosen, that is the full read, bit for bit. A list that
no one prompt holds is estimated in groups, and the chosen are then read from the start, as a list
of their own: their states of the lower layers are not kept.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rerank.backbones.decoder import DecoderBackbone
from rerank.backbones.protocol import Backbone, Readout, packed_for
from rerank.prompt.packing import PackedPrompts, PromptTokens
from rerank.prompt.parts import batched
from rerank.scoring.coverage_target import Target
from rerank.scoring.groups import grouped_scores, shared_out
from rerank.scoring.scores import LogSums, log_sums, passage_scores

Read = Callable[[Sequence[PromptTokens]], list[list[float]]]


class Covered(NamedTuple):
    """The `scores` of a list's passages, and of each whether it was `read` to the end."""

    scores: list[float]
    read: list[bool]


def check_coverable(backbone: Backbone) -> DecoderBackbone:
    """`backbone`, or `ValueError` where passages can't stop at a layer, or masses are no shares."""
    settings = backbone.settings
    if not isinstance(backbone, DecoderBackbone):
        raise ValueError(
            "coverage says how many passages a decoder goes on reading, and this model is an "
            "encoder: leave it out, or give budget_tokens"
        )
    if not settings.query_attends:
        raise ValueError(
            "coverage chooses among the passages that the query block reads, and this model's "
            "reads none (query_attends: false): leave it out, or give budget_tokens"
        )
    if settings.calibration != "none":
        raise ValueError(
            f"coverage chooses by shares of attention, and calibration {settings.calibration} "
            f"makes differences of them: leave coverage out, or set calibration: none"
        )
    return backbone


def covered_scores(
    backbone: Backbone,
    prompts: Sequence[PromptTokens],
    target: Target,
    max_tokens: int,
    read: Read,
) -> list[Covered]:
    """The scores of each prompt's passages, as the module says; `read` gives those of a full read.

    Raises `ValueError` as `check_coverable` does.
    """
    decoder = check_coverable(backbone)
    if target.share == 1:
        return [Covered(scores, [True] * len(scores)) for scores in read(prompts)]
    found: dict[int, Covered] = {}
    fitting = []
    for number, prompt in enumerate(prompts):
        if prompt.num_tokens > max_tokens:
            found[number] = _in_groups(decoder, prompt, target, max_tokens, read)
        else:
            fitting.append((number, prompt))
    for batch in batched(fitting, max_tokens):
        packed = packed_for(decoder, [prompt for _, prompt in batch])
        results = _in_one_pass(decoder, packed, target)
        found |= zip((number for number, _ in batch), results, strict=True)
    return [found[number] for number in range(len(prompts))]


def joined(estimates: Sequence[float], chosen: Sequence[int], masses: Sequence[float]) -> Covered:
    """The scores of a list with such `estimates`, of whose `chosen` places `masses` were read."""
    if len(chosen) == len(estimates):
        return Covered(list(masses), [True] * len(masses))
    merged = dict(enumerate(estimates))
    merged |= shared_out(merged, dict(zip(chosen, masses, strict=True)))
    read = set(chosen)
    return Covered(list(merged.values()), [place in read for place in merged])


def _in_one_pass(
    decoder: DecoderBackbone, packed: PackedPrompts, target: Target
) -> Iterator[Covered]:
    estimates: list[list[float]] = []

    def choose(readout: Readout) -> list[list[int]]:
        for masses in passage_scores(readout, packed, decoder.settings):
            estimates.append(_shares(masses.tolist()))
        return [target.chosen(each) for each in estimates]

    readout, left = decoder.read_chosen(packed, choose)
    masses = passage_scores(readout, left, decoder.settings)
    for estimate, values in zip(estimates, masses, strict=True):
        yield joined(estimate, target.chosen(estimate), values.tolist())


def _in_groups(
    decoder: DecoderBackbone,
    prompt: PromptTokens,
    target: Target,
    max_tokens: int,
    read: Read,
) -> Covered:
    def estimate(group: PromptTokens) -> LogSums:
        prompts = packed_for(decoder, [group])
        return log_sums(decoder.read_estimate(prompts), prompts)

    estimates = _shares(grouped_scores(prompt, max_tokens, estimate))
    chosen = target.chosen(estimates)
    (masses,) = read([prompt._replace(passages=[prompt.passages[place] for place in chosen])])
    return joined(estimates, chosen, masses)


def _shares(masses: Sequence[float]) -> list[float]:
    """`masses` that add up to 1; as they are where there is nothing to share."""
    total = math.fsum(masses)
    return [mass / total for mass in masses] if total > 0 else list(masses)
