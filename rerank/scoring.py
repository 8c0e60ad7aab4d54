"""From attention to scores: what a passage block receives from the signal tokens.

Enters: q of the signals, k of all tokens. Leaves: one score a passage of the packed prompts.
"""

import torch

from kernels import block_score
from rerank.backbone import SignalsAndKeys
from rerank.packing import PackedPrompts
from rerank.settings import RankerSettings


def passage_scores(
    signals: SignalsAndKeys, prompts: PackedPrompts, settings: RankerSettings
) -> list[torch.Tensor]:
    """Scores float32 [N] of each prompt's passages, in their order.

    `mass`: the softmax of a signal token's logits over the tokens of all passages, summed per
    passage; the mean over heads and signal tokens (BlockRank, arXiv 2510.05396, section 4).
    `log_sum_exp`: the log-sum-exp of the logits over the passage's own tokens, divided by the
    logits' scale; the mean over heads and signal tokens. A soft maximum, so no passage's score
    depends on another passage.
    """
    found = block_score(
        signals.q,
        signals.k,
        prompts.layout,
        scale=signals.scale,
        signal_request=prompts.signal_request,
        key_mask=prompts.key_mask,
    )
    if settings.score == "mass":
        values = found.mass
    else:
        values = found.log_sum_exp / signals.scale
        # A passage of which the model knows no token comes last, with a score that JSON can hold.
        values = values.clamp(min=torch.finfo(torch.float32).min)
    scores = []
    for request, count in enumerate(prompts.passage_counts):
        mine = values[:, prompts.signal_request == request, :count]
        # A passage's values in a row of their own: where it stands can't change how they add up.
        rows = mine.permute(2, 0, 1).reshape(count, -1).contiguous()
        scores.append(rows.double().mean(dim=1).float())
    return scores
