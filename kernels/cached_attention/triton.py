"""Attention over cached passages on NVIDIA GPUs: each cached byte is read once a key head.

In and out as `kernels.cached_attention`. Few rows meet many keys, so the keys are split over
programs; their partial results and those of the query's own block are merged in a fixed order.

    o, lse = forward(q, k, v, cached_k, cached_v, layout, scale, causal=True)  # CUDA tensors
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from kernels.block_attention.triton import ForwardLaunches, Results, attend, forward_launches
from kernels.block_attention.triton_forward import LOG2E, dot, grouped_rows, slot_rows
from kernels.block_score.triton import check_keys
from kernels.cached_attention.layout import CachedLayout
from kernels.dispatch import triton_is_interpreted
from kernels.host import to_device
from kernels.layout import Span, pieces
from kernels.quantized import QuantizedTokens
from kernels.tile_sizes import Tile, cached_tile
from kernels.triton_launch import Launch, check_readable, fitting, shared_memory
from kernels.triton_quantized import load_scales, load_tokens

# Cached tokens a program reads: enough programs to fill the chip, few enough partial results.
SPLIT_TOKENS = 512


class _Tables(NamedTuple):
    """`cached` int32 [n,5]: rows start and end, first and end piece, slot; `pieces` int32 [p,2];
    `own` int32 [m,7] and `merges` int32 [m,4] as in `kernels.tiles`.
    """

    cached: torch.Tensor
    pieces: torch.Tensor
    own: torch.Tensor
    merges: torch.Tensor
    num_slots: int


@triton.jit
def cached_kernel(
    q, k, v, k_scale, v_scale, part_o, part_lse, table, pieces, scale,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh,
    stride_kst, stride_ksh, stride_vst, stride_vsh, Hkv,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, BITS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Some rows, one key head, a run of pieces of cached tokens: write one slot."""
    row = table + tl.program_id(0) * 5
    kv_head = tl.program_id(1).to(tl.int64)
    token, head, real = grouped_rows(tl.load(row), tl.load(row + 1), kv_head, G, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    q_at = token.to(tl.int64) * stride_qt + head * stride_qh
    read = real[:, None] & (d < D)[None, :]
    queries = tl.load(q + q_at[:, None] + d[None, :], mask=read, other=0.0)
    dtype: tl.constexpr = q.dtype.element_ty
    k += kv_head * stride_kh
    v += kv_head * stride_vh
    k_scale += kv_head * stride_ksh
    v_scale += kv_head * stride_vsh
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    for piece in range(tl.load(row + 2), tl.load(row + 3)):
        key = tl.load(pieces + piece * 2) + tl.arange(0, BLOCK_N)
        seen = key < tl.load(pieces + piece * 2 + 1)
        keys = load_tokens(k, key, seen, stride_kt, 0, dtype, D, BLOCK_D, BITS)
        scales = load_scales(k_scale, key, seen, stride_kst, BITS)
        logits = dot(queries, tl.trans(keys), UPCAST) * (scales * (scale * LOG2E))[None, :]
        logits = tl.where(seen[None, :], logits, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(logits, 1))
        p = tl.exp2(logits - new_largest[:, None])
        shrink = tl.exp2(largest - new_largest)
        total = total * shrink + tl.sum(p, 1)
        values = load_tokens(v, key, seen, stride_vt, 0, dtype, D, BLOCK_D, BITS)
        scales = load_scales(v_scale, key, seen, stride_vst, BITS)
        acc = acc * shrink[:, None] + dot((p * scales[None, :]).to(dtype), values, UPCAST)
        largest = new_largest
    slot = slot_rows(tl.load(row + 4), kv_head, Hkv, BLOCK_M)
    tl.store(part_o + slot[:, None] * BLOCK_D + d[None, :], acc / total[:, None], mask=read)
    tl.store(part_lse + slot, (largest + tl.log2(total)) / LOG2E, mask=real)


class CachedLaunches(NamedTuple):
    """The kernels of `forward`: over cached tokens, and over the query's own block."""

    cached: Launch
    own: ForwardLaunches


def cached_launches(tile: Tile, D: int, group: int, causal: bool, bits: int) -> CachedLaunches:
    """What `forward` runs with `tile`, for `group` query heads a key head and a cache in `bits`."""
    options = {"BITS": bits, "UPCAST": triton_is_interpreted()}
    cached = Launch.of(cached_kernel, tile, G=group, D=D, **options)
    return CachedLaunches(cached, forward_launches(tile, D, group, causal))


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
    """o [Tq,Hq,D] in q's dtype and lse fp32 [Hq,Tq]."""
    check_readable(layout, q, k, v)
    for cached in (cached_k, cached_v):
        check_keys(q, cached, layout)
    _, Hq, D = q.shape
    Hkv = k.shape[1]
    group = Hq // Hkv
    longest = max((r.query for r in layout.requests), default=0)
    shared = shared_memory(q.device)
    tile = fitting(cached_tile(D, q.dtype, group, group * longest, shared), q)
    launches = cached_launches(tile, D, group, causal, cached_k.bits)
    key = ("cached tables", causal, tile.BLOCK_M // group, tile.BLOCK_N)
    tables = layout.memo(key, lambda: _build(layout, causal, tile.BLOCK_M // group, tile.BLOCK_N))
    results = Results.empty(q, Hkv, tables.num_slots, tile)
    if len(tables.cached):
        # Without scales any tensor will do in their place: none is read.
        k_scale = cached_k.values if cached_k.scale is None else cached_k.scale
        v_scale = cached_v.values if cached_v.scale is None else cached_v.scale
        launches.cached[(len(tables.cached), Hkv)](
            q, cached_k.values, cached_v.values, k_scale, v_scale, *results[2:],
            tables.cached, tables.pieces, scale, *q.stride()[:2], *cached_k.values.stride()[:2],
            *cached_v.values.stride()[:2], *k_scale.stride()[:2], *v_scale.stride()[:2], Hkv,
        )  # fmt: skip
    attend(launches.own, q, k, v, results, tables.own, tables.merges, scale)
    return results.o, results.lse


def _build(layout: CachedLayout, causal: bool, tokens: int, keys_at_once: int) -> _Tables:
    cached: list[tuple[int, ...]] = []
    cuts: list[tuple[int, int]] = []
    own: list[tuple[int, ...]] = []
    merges: list[tuple[int, ...]] = []
    slot = 0
    for spans in layout.spans:
        first_piece = len(cuts)
        blocks = (spans.instruction, *spans.passages)
        cuts += [piece for block in blocks for piece in pieces(block, keys_at_once)]
        runs = list(_runs(cuts, first_piece))
        for tile in pieces(spans.query, tokens):
            cached += [(*tile, *run, slot + i) for i, run in enumerate(runs)]
            keys = Span(spans.query.start, tile.end if causal else spans.query.end)
            own.append((*tile, *keys, 0, 0, slot + len(runs)))
            merges.append((*tile, slot, slot + len(runs) + 1))
            slot += len(runs) + 1

    def table(rows: list[tuple[int, ...]], width: int) -> torch.Tensor:
        return to_device(torch.tensor(rows, dtype=torch.int32).view(-1, width), layout.device)

    return _Tables(table(cached, 5), table([*cuts], 2), table(own, 7), table(merges, 4), slot)


def _runs(cuts: list[tuple[int, int]], first: int) -> list[tuple[int, int]]:
    """Runs [first, end) of pieces from `first` on, each of about `SPLIT_TOKENS` tokens."""
    runs: list[tuple[int, int]] = []
    tokens = 0
    for index in range(first, len(cuts)):
        tokens += cuts[index][1] - cuts[index][0]
        if tokens >= SPLIT_TOKENS or index + 1 == len(cuts):
            runs.append((first, index + 1))
            first, tokens = index + 1, 0
    return runs
