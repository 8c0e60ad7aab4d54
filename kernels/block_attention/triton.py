"""Block attention on NVIDIA GPUs: launches the Triton kernels beside this file.

In and out as `kernels.block_attention`, plus `backward`. fp32 inputs are multiplied exactly (no
TF32), fp16 and bf16 on tensor cores with fp32 sums. Deterministic: no atomics, and a request has
the same arithmetic in any batch.

    o, lse = forward(q, k, v, layout, scale, causal=True)  # CUDA tensors
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from kernels.block_attention.triton_backward import grad_kv_kernel, grad_q_kernel, sum_kernel
from kernels.block_attention.triton_forward import forward_kernel, merge_kernel
from kernels.dispatch import triton_is_interpreted
from kernels.layout import BlockLayout
from kernels.tile_sizes import Tile, backward_tile, forward_tile
from kernels.tiles import key_tiles, row_tiles
from kernels.triton_launch import Launch, check_readable, fitting, shared_memory


class ForwardLaunches(NamedTuple):
    """The kernels of a forward pass; `merge` for tiles whose keys were cut."""

    attend: Launch
    merge: Launch


class BackwardLaunches(NamedTuple):
    """The kernels of a backward pass; `sum_q` and `sum_kv` for tiles that were cut."""

    grad_q: Launch
    grad_kv: Launch
    sum_q: Launch
    sum_kv: Launch


class Results(NamedTuple):
    """o [T,Hq,D] in q's dtype and lse [Hq,T], and slots for partial ones; all but o in fp32."""

    o: torch.Tensor
    lse: torch.Tensor
    part_o: torch.Tensor
    part_lse: torch.Tensor

    @classmethod
    def empty(cls, q: torch.Tensor, kv_heads: int, num_slots: int, tile: Tile) -> Results:
        """Room for what queries `q` give in tiles of `tile`."""
        new: dict[str, Any] = {"dtype": torch.float32, "device": q.device}
        slots = (num_slots, kv_heads, tile.BLOCK_M)
        return cls(
            torch.empty(q.shape, dtype=q.dtype, device=q.device),
            torch.empty((q.shape[1], q.shape[0]), **new),
            torch.empty((*slots, tile.BLOCK_D), **new),
            torch.empty(slots, **new),
        )


def forward_launches(tile: Tile, D: int, group: int, causal: bool) -> ForwardLaunches:
    """What a forward pass runs with `tile`, for `group` query heads a key head."""
    options = {"CAUSAL": causal, "UPCAST": triton_is_interpreted()}
    attend = Launch.of(forward_kernel, tile, G=group, D=D, **options)
    return ForwardLaunches(attend, Launch.of_rows(merge_kernel, tile, G=group, D=D))


def backward_launches(tile: Tile, D: int, group: int, causal: bool) -> BackwardLaunches:
    """What a backward pass runs with `tile`, for `group` query heads a key head."""
    options = {"CAUSAL": causal, "UPCAST": triton_is_interpreted()}
    of_keys = tile._replace(BLOCK_M=tile.BLOCK_N)
    return BackwardLaunches(
        Launch.of(grad_q_kernel, tile, G=group, D=D, **options),
        Launch.of(grad_kv_kernel, tile, G=group, D=D, **options),
        Launch.of_rows(sum_kernel, tile, G=group, D=D),
        Launch.of_rows(sum_kernel, of_keys, G=1, D=D),
    )


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: BlockLayout,
    scale: float,
    causal: bool,
    tile: Tile | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """o [T,Hq,D] in q's dtype and lse fp32 [Hq,T]; `tile` overrides the tile sizes."""
    check_readable(layout, q, k, v)
    _, Hq, D = q.shape
    Hkv = k.shape[1]
    group = Hq // Hkv
    tile = tile or fitting(forward_tile(D, q.dtype, group, shared_memory(q.device)), q)
    launches = forward_launches(tile, D, group, causal)
    table = row_tiles(layout, causal, tile.BLOCK_M // group)
    results = Results.empty(q, Hkv, table.num_slots, tile)
    attend(launches, q, k, v, results, table.tiles, table.merges, scale)
    return results.o, results.lse


def attend(
    launches: ForwardLaunches,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    results: Results,
    tiles: torch.Tensor,
    merges: torch.Tensor,
    scale: float,
) -> None:
    """Fill the results of `tiles`, then those that `merges` make of slots."""
    T, Hkv, _ = k.shape
    if len(tiles):
        strides = [s for x in (q, k, v) for s in x.stride()[:2]]
        launches.attend[(len(tiles), Hkv)](q, k, v, *results, tiles, scale, *strides, T, Hkv)
    if len(merges):
        o, lse, *parts = results
        launches.merge[(len(merges), Hkv)](*parts, o, lse, merges, T, Hkv)


def backward(
    grad_o: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    o: torch.Tensor,
    lse: torch.Tensor,
    layout: BlockLayout,
    scale: float,
    causal: bool,
    tile: Tile | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q, k, v in their dtypes; probabilities are recomputed from lse."""
    if grad_o.stride(2) != 1:
        grad_o = grad_o.contiguous()
    T, Hq, D = q.shape
    Hkv = k.shape[1]
    group = Hq // Hkv
    tile = tile or fitting(backward_tile(D, q.dtype, group, shared_memory(q.device)), q)
    launches = backward_launches(tile, D, group, causal)
    strides = [s for x in (grad_o, q, k, v) for s in x.stride()[:2]]
    new: dict[str, Any] = {"dtype": torch.float32, "device": q.device}
    grad_q, grad_k, grad_v = (
        torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)
    )
    delta = torch.empty((Hq, T), **new)
    rows = row_tiles(layout, causal, tile.BLOCK_M // group)
    keys = key_tiles(layout, causal, tile.BLOCK_N)
    if not len(rows.tiles):
        return grad_q, grad_k, grad_v
    part_q = torch.empty((rows.num_slots, Hkv, tile.BLOCK_M, tile.BLOCK_D), **new)
    launches.grad_q[(len(rows.tiles), Hkv)](
        grad_o, q, k, v, o, lse, delta, grad_q, part_q, rows.tiles, scale, *strides, T, Hkv
    )
    if rows.num_slots:
        launches.sum_q[(len(rows.merges), Hkv)](part_q, grad_q, rows.merges, Hkv)
    part_k = torch.empty((keys.num_slots, Hkv, tile.BLOCK_N, tile.BLOCK_D), **new)
    part_v = torch.empty_like(part_k)
    launches.grad_kv[(len(keys.tiles), Hkv)](
        grad_o, q, k, v, lse, delta, grad_k, grad_v, part_k, part_v, keys.tiles, scale,
        *strides, T, Hkv,
    )  # fmt: skip
    if keys.num_slots:
        for part, grad in ((part_k, grad_k), (part_v, grad_v)):
            launches.sum_kv[(len(keys.merges), Hkv)](part, grad, keys.merges, Hkv)
    return grad_q, grad_k, grad_v
