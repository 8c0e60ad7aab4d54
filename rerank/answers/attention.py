"""The attention of answer decoding: a prompt by blocks first, then answers that see all of it.

Enters: q, k, v of a pass over the prompt, then of a pass over answers' tokens. Leaves: the
attention output; the prompt's keys and values stay in between.

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=register_answers())
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface

from rerank.backbones.block_interface import BlockContext, register

NAME = "blockseek_answers"


@dataclass
class AnswerContext:
    """What the two passes over one prompt share with every layer's attention.

    The first leaves keys and values [1, Hkv, T, D] of each layer in `prompt`; the second has
    `sees`, bool [nodes, T + nodes].
    """

    blocks: BlockContext
    sees: torch.Tensor | None = None
    prompt: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    answer_context: AnswerContext,
    **options: Any,
) -> Any:
    """`query` [1, Hq, T, D], `key` and `value` [1, Hkv, T, D] -> output [1, T, Hq, D]."""
    prompt, layer = answer_context.prompt, getattr(module, "layer_idx", -1)
    if answer_context.sees is None:
        prompt[layer] = key, value
        options["block_context"] = answer_context.blocks
        over_blocks = AttentionInterface()[register()]
        return over_blocks(module, query, key, value, attention_mask, **options)
    keys = torch.cat([prompt[layer][0], key], dim=2)
    values = torch.cat([prompt[layer][1], value], dim=2)
    sees = answer_context.sees[None, None]
    over_all = AttentionInterface()["sdpa"]
    return over_all(module, query, keys, values, sees, **options)


def register_answers() -> str:
    """Make the interface known to transformers and return the name it goes by."""
    AttentionInterface.register(NAME, _attention)
    return NAME
