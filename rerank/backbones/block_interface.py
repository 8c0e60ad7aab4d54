"""Block attention as transformers' attention interface sees it.

Enters: q, k, v of one packed row, as every model hands them over. Leaves: the attention output;
at layers that score, q and k are kept, and behind the last of them the forward pass ends.

    model = AutoModel.from_pretrained(folder, attn_implementation=register())
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface

from kernels import BlockLayout, block_attention

NAME = "blockseek"


class ScoringLayerReached(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass whose remaining layers nobody needs."""


class LayerKeys(NamedTuple):
    """What a layer scores with: `q` [S, Hq, D] of the signal tokens, `k` [T, Hkv, D], `scale`."""

    q: torch.Tensor
    k: torch.Tensor
    scale: float


@dataclass
class BlockContext:
    """What one forward pass shares with every layer's attention.

    `layers` counts the attentions that came through here. At each of `scoring_layers` the queries
    of the `signal` tokens and the keys are put into `found`; the pass ends with
    `ScoringLayerReached` at layer `last`, if that is given.
    """

    layout: BlockLayout
    causal: bool
    signal: torch.Tensor | None = None
    scoring_layers: frozenset[int] = frozenset()
    last: int | None = None
    found: dict[int, LayerKeys] = field(default_factory=dict)
    layers: int = 0

    def keys(self, layer: int | None, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The keys [T, Hkv, D] that a layer's signals score, given those of this pass."""
        return k

    def attend(
        self,
        layer: int | None,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """The attention output [T, Hq, D] of one layer."""
        return block_attention(q, k, v, self.layout, causal=self.causal, scale=scale)

    def check_window(self, window: int) -> None:
        """Raise `ValueError` where a layer's sliding window would bite."""
        _check_window(self.layout, window)


@dataclass
class TakingContext:
    """Takes what one attention hands over, `q` [T, Hq, D], `k` [T, Hkv, D], and ends there."""

    q: torch.Tensor = field(init=False)
    k: torch.Tensor = field(init=False)
    scale: float = field(init=False)


def register() -> str:
    """Make the interface known to transformers and return the name it goes by."""
    AttentionInterface.register(NAME, attention)
    return NAME


def no_interface(model: torch.nn.Module) -> str:
    """What to say of a model whose attention never came through the interface."""
    return f"{type(model).__name__} does not use the attention interface: it can't be a reranker"


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    block_context: BlockContext | TakingContext,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`query` [1, Hq, T, D], `key` and `value` [1, Hkv, T, D] -> output [1, T, Hq, D]."""
    _refuse(query, attention_mask, dropout, softcap)
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(block_context, TakingContext):
        block_context.q, block_context.k, block_context.scale = q, k, scale
        raise ScoringLayerReached
    block_context.layers += 1
    layer = getattr(module, "layer_idx", None)
    keys = block_context.keys(layer, k, v)
    if layer in block_context.scoring_layers:
        assert block_context.signal is not None
        block_context.found[layer] = LayerKeys(q[block_context.signal], keys, scale)
    if layer is not None and layer == block_context.last:
        raise ScoringLayerReached
    if sliding_window is not None:
        block_context.check_window(sliding_window)
    return block_context.attend(layer, q, k, v, scale)[None], None


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
