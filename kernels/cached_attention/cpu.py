"""Attention over cached passages on the CPU: block attention's query rows, fed from the cache.

In and out as `kernels.cached_attention`. A passage is turned into floats chunk by chunk, so each of
its bytes is read once; a query row has the same bits for any order of the passages, any place in
the pool, and any other requests in the call.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from kernels.block_attention.cpu import head_groups, query_rows
from kernels.block_attention.cpu_plan import (
    QUERY_ROWS,
    Chunk,
    Item,
    QueryTile,
    chunked,
    own_query_item,
    query_tiles,
)
from kernels.cached_attention.layout import CachedLayout
from kernels.layout import Span, pieces
from kernels.padding import Tokens, wide_dtype
from kernels.quantized import QuantizedTokens
from kernels.threads import in_threads

_NONE = Span(0, 0)


class _Plan(NamedTuple):
    """`cached`: query rows per cached block; `own`: per own block; merged by `tiles`."""

    cached: tuple[Chunk, ...]
    own: tuple[Chunk, ...]
    tiles: tuple[QueryTile, ...]


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cached_k: QuantizedTokens,
    cached_v: QuantizedTokens,
    layout: CachedLayout,
    scale: float,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """o [Tq,Hq,D] in q's dtype and lse [Hq,Tq] in fp32 (float64 for float64 queries)."""
    plan = layout.memo(("cpu cached plan", causal), lambda: _build(layout, causal))
    o = torch.empty(q.shape, dtype=q.dtype)
    lse = torch.empty((q.shape[1], q.shape[0]), dtype=wide_dtype(q.dtype))
    group = q.shape[1] // k.shape[1]

    def fill(part: tuple[slice, slice]) -> None:
        heads, kv_heads = part
        sources: list[tuple[Tokens, Tokens, tuple[Chunk, ...]]] = [
            (cached_k.heads(kv_heads), cached_v.heads(kv_heads), plan.cached),
            (k[:, kv_heads], v[:, kv_heads], plan.own),
        ]
        query_rows(q[:, heads], sources, plan.tiles, scale, o[:, heads], lse[heads])

    parts = list(head_groups(plan.tiles, k.shape[1], group, q.shape[2]))
    for _ in in_threads(fill, parts):
        pass
    return o, lse


def _build(layout: CachedLayout, causal: bool) -> _Plan:
    cached: list[Item] = []
    own: list[Item] = []
    for spans in layout.spans:
        for rows in pieces(spans.query, QUERY_ROWS):
            blocks = (spans.instruction, *spans.passages)
            cached += [Item(rows, _NONE, span) for span in blocks if span.length]
            own.append(own_query_item(rows, spans.query, causal))
    return _Plan(chunked(cached), chunked(own), query_tiles((*cached, *own)))
