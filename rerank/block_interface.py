"""Block attention as transformers' attention interface sees it.

Enters: q, k, v of one packed row, as every model hands them over. Leaves: the attention output;
or, at the layer that scores, nothing more: q and k are kept and the forward pass ends there.

    model = AutoModel.from_pretrained(folder, attn_implementation=register())
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

from kernels import BlockLayout, block_attention

NAME = "blockseek"


class ScoringLayerReached(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass whose remaining layers nobody needs."""


@dataclass
class BlockContext:
    """What one forward pass shares with every layer's attention.

    `layers` counts the attentions that came through here.

    `q` [T, Hq, D], `k` [T, Hkv, D] and `scale` are filled in at `scoring_layer`, if there is one.
    """

    layout: BlockLayout
    causal: bool
    scoring_layer: int | None = None
    q: torch.Tensor | None = None
    k: torch.Tensor | None = None
    scale: float = 1.0
    layers: int = 0


def register() -> str:
    """Make the interface known to transformers and return the name it goes by."""
    AttentionInterface.register(NAME, _attention)
    return NAME


def no_interface(model: torch.nn.Module) -> str:
    """What to say of a model whose attention never came through the interface."""
    return f"{type(model).__name__} does not use the attention interface: it can't be a reranker"


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    block_context: BlockContext,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`query` [1, Hq, T, D], `key` and `value` [1, Hkv, T, D] -> output [1, T, Hq, D]."""
    _refuse(query, attention_mask, dropout, softcap)
    block_context.layers += 1
    if sliding_window is not None:
        _check_window(block_context.layout, sliding_window)
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    if getattr(module, "layer_idx", None) == block_context.scoring_layer is not None:
        block_context.q, block_context.k, block_context.scale = q, k, scale
        raise ScoringLayerReached
    output = block_attention(
        q, k, v, block_context.layout, causal=block_context.causal, scale=scale
    )
    return output[None], None


def _refuse(
    query: torch.Tensor, mask: torch.Tensor | None, dropout: float, softcap: float | None
) -> None:
    if query.shape[0] != 1:
        raise ValueError(f"block attention takes one packed row, got a batch of {query.shape[0]}")
    if mask is not None:
        raise ValueError("block attention knows its mask from the layout, and was given another")
    if dropout:
        raise ValueError("block attention has no dropout: set the attention dropout to 0")
    if softcap:
        raise ValueError("block attention has no soft cap on logits, and this model wants one")


def _check_window(layout: BlockLayout, window: int) -> None:
    """The query block reads all passages by definition; inside a block a window must not bite."""
    for request in layout.requests:
        longest = request.instruction + max(request.passages, default=0)
        if longest > window:
            raise ValueError(
                f"a passage and the instruction have {longest} tokens, the model's sliding window "
                f"{window}: lower max_passage_tokens"
            )
