"""Block scores on NVIDIA GPUs: each key is read once, and only per-block sums are written.

In and out as `kernels.block_score`: `log_sum_exp` and `backward`. A program does one passage for
one key head, against all signal tokens and grouped query heads at once; token scores never leave
its registers. Deterministic: no atomics, every passage has a program of its own.

    log_sum_exp(q, k, layout, (0, 0, 1), scale=0.125, key_mask=None)  # CUDA tensors
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from kernels.block_attention.triton_backward import sum_kernel
from kernels.block_score.cpu import signals_of
from kernels.block_score.triton_kernels import score_backward_kernel, score_kernel
from kernels.dispatch import triton_is_interpreted
from kernels.host import to_device
from kernels.layout import PassageSpans
from kernels.padding import Tokens
from kernels.quantized import QuantizedTokens
from kernels.tile_sizes import Tile, score_backward_tile, score_tile
from kernels.triton_launch import Launch, check_readable, fitting, shared_memory


class _Table(NamedTuple):
    """`order` int64 [S] sorts the signal tokens by request; a tile is one passage and some of them.

    `tiles` int32 [n,5]: passage start and end, its place in its request, first and end of the
    sorted signal tokens. `merges` int32 [m,4]: those of each group and its run of tiles.
    """

    order: torch.Tensor
    tiles: torch.Tensor
    merges: torch.Tensor


class BackwardLaunches(NamedTuple):
    """`grads` writes the first gradients of the keys, `add_grads` adds to them; then `sum_q`."""

    grads: Launch
    add_grads: Launch
    sum_q: Launch


def score_launch(tile: Tile, D: int, group: int, bits: int, masked: bool) -> Launch:
    """What `log_sum_exp` runs with `tile`, for `group` query heads a key head."""
    options = {"BITS": bits, "MASKED": masked, "UPCAST": triton_is_interpreted()}
    return Launch.of(score_kernel, tile, G=group, D=D, **options)


def backward_launches(tile: Tile, D: int, group: int, masked: bool) -> BackwardLaunches:
    """What `backward` runs with `tile`, for `group` query heads a key head."""
    options = {"G": group, "D": D, "MASKED": masked, "UPCAST": triton_is_interpreted()}
    return BackwardLaunches(
        Launch.of(score_backward_kernel, tile, **options, ADD=False),
        Launch.of(score_backward_kernel, tile, **options, ADD=True),
        Launch.of_rows(sum_kernel, tile, G=group, D=D),
    )


def log_sum_exp(
    q: torch.Tensor,
    k: Tokens,
    layout: PassageSpans,
    signal_request: tuple[int, ...],
    scale: float,
    key_mask: torch.Tensor | None,
) -> torch.Tensor:
    """fp32 [Hq,S,Nmax]: log-sum-exp of each signal token's logits over each passage's keys."""
    keys = QuantizedTokens(k) if isinstance(k, torch.Tensor) else k
    check_keys(q, keys, layout)
    # Without scales any tensor will do in their place: none is read.
    k_scale = keys.values if keys.scale is None else keys.scale
    S, Hq, D = q.shape
    Hkv = k.shape[1]
    longest = max((len(spans.passages) for spans in layout.spans), default=0)
    lse = torch.full((Hq, S, longest), -torch.inf, dtype=torch.float32, device=q.device)
    group = Hq // Hkv
    tile = fitting(score_tile(D, q.dtype, group, group * S, shared_memory(q.device)), q)
    launch = score_launch(tile, D, group, keys.bits, key_mask is not None)
    for tables in _tables(layout, signal_request, tile.BLOCK_M // group):
        if len(tables.tiles):
            launch[(len(tables.tiles), Hkv)](
                q, keys.values, k_scale, _bytes(key_mask, lse), tables.order, tables.tiles, lse,
                scale, *q.stride()[:2], *keys.values.stride()[:2], *k_scale.stride()[:2],
                S, longest,
            )  # fmt: skip
    return lse


def backward(
    weight: torch.Tensor,
    lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    layout: PassageSpans,
    signal_request: tuple[int, ...],
    scale: float,
    key_mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of q and k for a gradient `weight` [Hq,S,Nmax] of the log-sum-exps `lse`."""
    (S, Hq, D), Hkv = q.shape, k.shape[1]
    group = Hq // Hkv
    tile = fitting(score_backward_tile(D, q.dtype, group, group * S, shared_memory(q.device)), q)
    launches = backward_launches(tile, D, group, key_mask is not None)
    pieces = -(-D // tile.BLOCK_D)
    new: dict[str, Any] = {"dtype": torch.float32, "device": q.device}
    grad_k = torch.zeros(k.shape, **new)
    grad_q = torch.zeros(q.shape, **new)
    weight = weight.contiguous()
    for turn, tables in enumerate(_tables(layout, signal_request, tile.BLOCK_M // group)):
        if not len(tables.tiles):
            continue
        slots = (len(tables.tiles), Hkv, tile.BLOCK_M)
        part_q = torch.empty((*slots, pieces * tile.BLOCK_D), **new)
        launch = launches.add_grads if turn else launches.grads
        launch[(len(tables.tiles), Hkv, pieces)](
            q, k, _bytes(key_mask, lse), tables.order, tables.tiles, lse, weight, part_q, grad_k,
            scale, *q.stride()[:2], *k.stride()[:2], S, lse.shape[2], Hkv,
        )  # fmt: skip
        ranked = torch.zeros_like(grad_q)
        launches.sum_q[(len(tables.merges), Hkv, pieces)](part_q, ranked, tables.merges, Hkv)
        grad_q[tables.order] += ranked
    return grad_q.to(q.dtype), grad_k.to(k.dtype)


def _tables(layout: PassageSpans, signal_request: tuple[int, ...], size: int) -> list[_Table]:
    """One table a turn: in each turn a passage meets at most `size` of its signal tokens."""
    key = ("score tables", signal_request, size)
    return layout.memo(key, lambda: _build(layout, signal_request, size))


def _build(layout: PassageSpans, signal_request: tuple[int, ...], size: int) -> list[_Table]:
    signals = signals_of(signal_request, len(layout.spans))
    order = torch.tensor([s for group in signals for s in group], dtype=torch.int64)
    turns: list[tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = []
    rank = 0
    for spans, group in zip(layout.spans, signals, strict=True):
        passages = [(place, span) for place, span in enumerate(spans.passages) if span.length]
        for turn, first in enumerate(range(0, len(group) if passages else 0, size)):
            if turn == len(turns):
                turns.append(([], []))
            tiles, merges = turns[turn]
            rows = (rank + first, rank + min(first + size, len(group)))
            merges.append((*rows, len(tiles), len(tiles) + len(passages)))
            tiles += [(*span, place, *rows) for place, span in passages]
        rank += len(group)

    def table(rows: list[tuple[int, ...]], width: int) -> torch.Tensor:
        return to_device(torch.tensor(rows, dtype=torch.int32).view(-1, width), layout.device)

    on_device = to_device(order, layout.device)
    return [_Table(on_device, table(tiles, 5), table(merges, 4)) for tiles, merges in turns]


def _bytes(key_mask: torch.Tensor | None, any_tensor: torch.Tensor) -> torch.Tensor:
    """The mask as bytes; any tensor will do where no mask is read."""
    return any_tensor if key_mask is None else key_mask.view(torch.uint8)


def check_keys(q: torch.Tensor, keys: QuantizedTokens, layout: PassageSpans) -> None:
    """As `check_readable`, and keys stored as floats must be those of the queries."""
    check_readable(layout, q, keys.values)
    if keys.scale is None and keys.values.dtype != q.dtype:
        raise ValueError(
            f"q is {q.dtype} and the keys {keys.values.dtype}: on a GPU keys stored as floats must "
            "have q's dtype"
        )
