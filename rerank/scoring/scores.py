"""From attention to scores: what a passage block receives from the signal tokens.

Enters: what a backbone read. Leaves: one score a passage of the packed prompts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from kernels import BlockScores, CachedLayout, QuantizedTokens, block_score, cached_block_score
from kernels.block_score import mass
from kernels.host import to_device
from rerank.backbones.lexical import WordWeights, word_matches
from rerank.backbones.protocol import Readout, ScoringHeads
from rerank.prompt.packing import PackedPrompts
from rerank.settings.common import RankerSettings


def passage_scores(
    readout: Readout, prompts: PackedPrompts, settings: RankerSettings
) -> list[torch.Tensor]:
    """Scores float32 [N] of each prompt's passages, in their order; differentiable.

    A score is the prior and what equal words give, plus the sum over heads and signal tokens of
    weight times value.
    `mass`: the softmax of a signal token's logits over the tokens of all passages, summed per
    passage (BlockRank, arXiv 2510.05396, section 4). `log_sum_exp`: the log-sum-exp of the logits
    over the passage's own tokens, divided by the logits' scale: a soft maximum, so no passage's
    score depends on another passage.
    """
    totals = [torch.zeros(n, device=prompts.signal.device).double() for n in prompts.passage_counts]
    for heads in readout.heads:
        values = head_values(heads, prompts, settings)
        for request, (count, mine) in enumerate(
            zip(prompts.passage_counts, prompts.signal_slices, strict=True)
        ):
            # A passage's values in a row of their own, added up within a head and then over heads:
            # neither its place nor the number of passages changes how.
            rows = values[:, mine, :count].permute(2, 0, 1).contiguous().double()
            weighted = rows * heads.weights[:, mine].double()
            totals[request] = totals[request] + weighted.sum(-1).sum(-1)
    if readout.prior is not None:
        priors = readout.prior.values(prompts.passage_counts).split(prompts.passage_counts)
        totals = [total + prior for total, prior in zip(totals, priors, strict=True)]
    if readout.words is not None:
        for request, mine in enumerate(prompts.signal_slices):
            found = matches(readout.words, prompts, request, mine)
            totals[request] = totals[request] + to_device(found, totals[request].device)
    return [total.float() for total in totals]


def plain_scores(scores: Sequence[torch.Tensor]) -> list[list[float]]:
    """`scores` of each prompt as numbers, for which the host waits once."""
    counts = [len(each) for each in scores]
    return [part.tolist() for part in torch.cat(list(scores)).cpu().split(counts)]


def matches(
    words: WordWeights, prompts: PackedPrompts, request: int, signals: slice | torch.Tensor
) -> torch.Tensor:
    """float64 [N] on the host: what the words of `signals` find in the passages of a request.

    `signals` are a slice of the S, or bool [S].
    """
    spans = prompts.passages.spans[request].passages
    lengths = torch.tensor([span.length for span in spans])
    asked = words._replace(keys=words.keys[signals], weights=words.weights[signals])
    found = torch.cat([prompts.words[start:end] for start, end in spans])
    return word_matches(asked, found, lengths)


def head_values(
    heads: ScoringHeads, prompts: PackedPrompts, settings: RankerSettings
) -> torch.Tensor:
    """[Hq, S, N of the longest request]: what each head and signal token says of each passage."""
    found = _block_scores(heads, prompts)
    if settings.score == "mass":
        return found.mass
    # A passage of which the model knows no token has minus infinity, of which a weight of 0 would
    # make no number. `with_unread_last` gives it a score.
    return (found.log_sum_exp / heads.scale).clamp(min=torch.finfo(torch.float32).min)


def with_unread_last(
    scores: Sequence[float], unread: Sequence[bool], settings: RankerSettings
) -> list[float]:
    """`scores` of a list, with those of its `unread` passages below all others, and finite.

    Nothing of an unread passage was there to be scored: no visible character, or no token that the
    model knows. A mass is 0 then. Any other score is 1 below the lowest of the others, and -1 where
    there is none; so it does not depend on the passages' order.
    """
    if not any(unread):
        return list(scores)
    if settings.score == "mass" and settings.calibration == "none":
        last = 0.0
    else:
        read = (score for score, blank in zip(scores, unread, strict=True) if not blank)
        last = min(read, default=0.0) - 1
    return [last if blank else score for score, blank in zip(scores, unread, strict=True)]


class LogSums(NamedTuple):
    """One prompt's log-sum-exps: `values` [N, K] for K heads and signal tokens of all layers.

    `weights` float32 [K] is what each counts.
    """

    values: torch.Tensor
    weights: torch.Tensor


def log_sums(readout: Readout, prompts: PackedPrompts) -> LogSums:
    """The log-sum-exps of a single prompt, on the CPU, to be put beside those of others."""
    assert readout.prior is None  # priors belong to scores that need no other passage
    (count,) = prompts.passage_counts
    values, weights = [], []
    for heads in readout.heads:
        found = _block_scores(heads, prompts)
        values.append(found.log_sum_exp[..., :count].permute(2, 0, 1).flatten(1).cpu())
        weights.append(heads.weights.flatten().cpu())
    return LogSums(torch.cat(values, dim=1), torch.cat(weights))


def mass_scores(sums: LogSums) -> torch.Tensor:
    """float64 [N]: each passage's mass under one softmax over all of `sums`."""
    shares = mass(sums.values.T.contiguous()).T.contiguous().double()
    return (shares * sums.weights.double()).sum(-1)


def _block_scores(heads: ScoringHeads, prompts: PackedPrompts) -> BlockScores:
    if isinstance(prompts.passages, CachedLayout):
        return cached_block_score(
            heads.q,
            QuantizedTokens(heads.k),
            prompts.passages,
            scale=heads.scale,
            signal_request=prompts.signal_request,
            key_mask=prompts.key_mask,
        )
    return block_score(
        heads.q,
        heads.k,
        prompts.passages,
        scale=heads.scale,
        signal_request=prompts.signal_request,
        key_mask=prompts.key_mask,
    )
