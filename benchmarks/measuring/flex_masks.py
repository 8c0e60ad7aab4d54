"""FlexAttention's sparse mask of a packed batch, from the blocks themselves.

In: a `BlockLayout`. Out: a `BlockMask`, equal to what `create_block_mask` finds by asking its rule
about every pair of tokens. That is quadratic, and its compiled form was seen to hang on a GPU;
here each token's keys are two runs, whose overlap with every tile of keys is counted.

    mask = block_mask(layout, causal=True)
    flex_attention(q, k, v, block_mask=mask)  # [1,H,T,D]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask

from kernels import BlockLayout

TILE = 128
Rule = Callable[[Any, Any, torch.Tensor, torch.Tensor], torch.Tensor]


def runs(layout: BlockLayout, causal: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Two runs [start, end) of keys for each row, int64 [T,2]: its own block, and what is before.

    Before a passage that is its request's instruction, before a query block the whole request,
    before an instruction nothing.
    """
    own: list[tuple[int, int]] = []
    far: list[tuple[int, int]] = []
    for spans in layout.spans:
        start = spans.instruction.start
        own.append(spans.instruction)
        far.append((start, start))
        own += spans.passages
        far += [spans.instruction] * len(spans.passages)
        own.append(spans.query)
        far.append((start, spans.query.start))
    block = layout.token_block
    own_runs, far_runs = (
        torch.tensor(table, dtype=torch.int64, device=layout.device).view(-1, 2)[block]
        for table in (own, far)
    )
    if causal:
        own_runs[:, 1] = torch.arange(1, layout.num_tokens + 1, device=layout.device)
    return own_runs, far_runs


def rule(layout: BlockLayout, causal: bool) -> Rule:
    """The mask as FlexAttention asks for it: may `row` see `key`?

    Written with the blocks' numbers instead, it does not compile for the CPU with dynamic shapes.
    """
    own, far = runs(layout, causal)
    own_start, own_end, far_start, far_end = (x.contiguous() for x in (*own.T, *far.T))

    def visible(_b: Any, _h: Any, row: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        in_own = (key >= own_start[row]) & (key < own_end[row])
        return in_own | ((key >= far_start[row]) & (key < far_end[row]))

    return visible


def block_mask(layout: BlockLayout, causal: bool) -> BlockMask:
    """The sparse mask of tiles of 128 by 128: which are read, and which without asking the rule."""
    T = layout.num_tokens
    tiles = -(-T // TILE)
    first = torch.arange(tiles, device=layout.device) * TILE
    # int32 [T, tiles]: the keys of each tile that each row sees.
    seen = sum(_overlap(run, first) for run in runs(layout, causal))
    assert isinstance(seen, torch.Tensor)
    padded = torch.nn.functional.pad(seen, (0, 0, 0, tiles * TILE - T))
    pairs = padded.view(tiles, TILE, tiles).sum(1)
    full = pairs == TILE * TILE
    partial = (pairs > 0) & ~full
    return BlockMask.from_kv_blocks(
        *_ordered(partial),
        *_ordered(full),
        BLOCK_SIZE=TILE,
        mask_mod=rule(layout, causal),
        seq_lengths=(T, T),
    )


def _overlap(run: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    start = torch.maximum(run[:, :1], first)
    end = torch.minimum(run[:, 1:], first + TILE)
    return (end - start).clamp_(min=0).int()


def _ordered(chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int32 [1,1,n] and [1,1,n,n]: how many tiles of keys a tile of rows has, and those first."""
    order = torch.argsort(chosen.int(), dim=-1, descending=True, stable=True)
    return chosen.sum(-1).int()[None, None], order.int()[None, None]
