"""What else computes attention under the block mask: masked SDPA, SDPA a block, FlexAttention.

In: a `Case`. Out: calls without arguments, to be timed.

    calls = peer_calls(case, ["per_block_sdpa"])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from kernels import BlockLayout
from measuring.attention_cases import Case, Shape, layout_of
from measuring.flex_masks import block_mask

Attention = Callable[[], torch.Tensor]


def dense_mask(layout: BlockLayout, causal: bool) -> torch.Tensor:
    """bool [T,T] of one request."""
    block = layout.token_block
    last = layout.num_blocks - 1
    mask = (block[:, None] == block) | (block == 0)[None, :] | (block == last)[:, None]
    if causal:
        index = torch.arange(len(block), device=layout.device)
        mask &= (block[:, None] != block) | (index[:, None] >= index)
    return mask


def per_block(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: BlockLayout, causal: bool
) -> torch.Tensor:
    """One SDPA call a block on [H,T,D]; a lower-right causal mask where it is needed."""
    out = torch.empty_like(q)
    spans = layout.spans[0]
    first = slice(*spans.instruction)
    for block in (spans.instruction, *spans.passages, spans.query):
        rows = slice(*block)
        if block == spans.query:
            keys, values = k, v
        elif block == spans.instruction:
            keys, values = k[:, first], v[:, first]
        else:
            keys, values = (torch.cat((x[:, first], x[:, rows]), dim=1) for x in (k, v))
        mask = None
        if causal:
            mask = torch.ones(block.length, keys.shape[1], dtype=torch.bool, device=q.device)
            mask = mask.tril(keys.shape[1] - block.length)
        attended = scaled_dot_product_attention(
            q[None, :, rows], keys[None], values[None], attn_mask=mask, enable_gqa=True
        )
        out[:, rows] = attended[0]
    return out


def compiled_flex(device: torch.device) -> Any:
    """FlexAttention, compiled at its first call."""
    return torch.compile(flex_attention, dynamic=device.type == "cpu")


def peer_calls(case: Case, methods: list[str], flex: Any = None) -> dict[str, Attention]:
    """A call for each of `methods`, to [1,H,T,D] or [H,T,D]; `flex` is `compiled_flex`'s."""
    q, k, v = case.head_major
    layout, causal = case.layout, case.shape.causal
    calls: dict[str, Attention] = {}
    if "masked_sdpa" in methods:
        mask = dense_mask(layout, causal)
        calls["masked_sdpa"] = lambda: scaled_dot_product_attention(
            q[None], k[None], v[None], attn_mask=mask, enable_gqa=True
        )
    if "per_block_sdpa" in methods:
        calls["per_block_sdpa"] = lambda: per_block(q, k, v, layout, causal)
    if "flex" in methods:
        sparse = block_mask(layout, causal)
        grouped = case.shape.group > 1
        calls["flex"] = lambda: flex(
            q[None], k[None], v[None], block_mask=sparse, enable_gqa=grouped
        )
    return calls


def affordable(shape: Shape, passages: int, device: torch.device) -> list[str]:
    """The peers worth waiting for: a dense mask not where it takes minutes or all memory."""
    T = layout_of(passages, torch.device("cpu")).num_tokens
    methods = ["per_block_sdpa"]
    square = 4.0 * T**2 * shape.heads * shape.head_size
    if T < 25_000 if device.type == "cuda" else square < 3e11:
        methods.append("masked_sdpa")
    return [*methods, "flex"]
