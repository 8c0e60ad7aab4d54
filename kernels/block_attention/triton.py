"""Block attention on NVIDIA GPUs: launches the Triton kernels beside this file.

In and out as `kernels.block_attention`, plus `backward`. fp32 inputs are multiplied exactly (no
TF32), fp16 and bf16 on tensor cores with fp32 sums. Deterministic: no atomics, and a request has
the same arithmetic in any batch.

    o, lse = forward(q, k, v, layout, scale, causal=True)  # CUDA tensors
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton

from kernels.block_attention.triton_backward import grad_kv_kernel, grad_q_kernel, sum_kernel
from kernels.block_attention.triton_forward import forward_kernel, merge_kernel
from kernels.dispatch import triton_is_interpreted
from kernels.layout import BlockLayout
from kernels.tiles import key_tiles, row_tiles


class Config(NamedTuple):
    """Tile sizes and launch options; BLOCK_M rows are tokens times grouped query heads."""

    BLOCK_M: int
    BLOCK_N: int
    num_warps: int
    num_stages: int


def forward_config(D: int, dtype: torch.dtype) -> Config:
    """Tiles that fit shared memory; blocks of about 100 keys waste little of 64."""
    if dtype == torch.float32:
        return Config(64, 32, 4, 2)
    if D <= 64:
        return Config(128, 64, 4, 3)
    return Config(128, 64, 8, 3) if D <= 128 else Config(64, 64, 8, 2)


def backward_config(D: int, dtype: torch.dtype) -> Config:
    """The backward kernels hold two accumulators and four operands at once."""
    if dtype == torch.float32:
        return Config(32, 32, 4, 1)
    return Config(64, 64, 4, 2) if D <= 128 else Config(32, 32, 4, 1)


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: BlockLayout,
    scale: float,
    causal: bool,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """o [T,Hq,D] in q's dtype and lse fp32 [Hq,T]; `config` overrides the tile sizes."""
    _check(q, k, v, layout)
    T, Hq, D = q.shape
    Hkv = k.shape[1]
    config = config or forward_config(D, q.dtype)
    shape = _shape(Hq, Hkv, D, config.BLOCK_M)
    table = row_tiles(layout, causal, shape["BLOCK_M"] // shape["G"])
    o = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((Hq, T), dtype=torch.float32, device=q.device)
    slots = (table.num_slots, Hkv, shape["BLOCK_M"])
    part_o = torch.empty((*slots, shape["BLOCK_D"]), dtype=torch.float32, device=q.device)
    part_lse = torch.empty(slots, dtype=torch.float32, device=q.device)
    if len(table.tiles):
        forward_kernel[(len(table.tiles), Hkv)](
            q, k, v, o, lse, part_o, part_lse, table.tiles, scale,
            *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], T, Hkv,
            **shape, BLOCK_N=config.BLOCK_N, CAUSAL=causal, UPCAST=triton_is_interpreted(),
            num_warps=config.num_warps, num_stages=config.num_stages,
        )  # fmt: skip
    if table.num_slots:
        merge_kernel[(len(table.merges), Hkv)](
            part_o, part_lse, o, lse, table.merges, T, Hkv, **shape
        )
    return o, lse


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
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q, k, v in their dtypes; probabilities are recomputed from lse."""
    if grad_o.stride(2) != 1:
        grad_o = grad_o.contiguous()
    T, Hq, D = q.shape
    Hkv = k.shape[1]
    config = config or backward_config(D, q.dtype)
    shape = _shape(Hq, Hkv, D, config.BLOCK_M)
    options: dict[str, Any] = {
        "BLOCK_N": config.BLOCK_N,
        "CAUSAL": causal,
        "UPCAST": triton_is_interpreted(),
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }
    strides = [s for x in (grad_o, q, k, v) for s in x.stride()[:2]]
    new: dict[str, Any] = {"dtype": torch.float32, "device": q.device}
    grad_q, grad_k, grad_v = (
        torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)
    )
    delta = torch.empty((Hq, T), **new)
    rows = row_tiles(layout, causal, shape["BLOCK_M"] // shape["G"])
    keys = key_tiles(layout, causal, config.BLOCK_N)
    if not len(rows.tiles):
        return grad_q, grad_k, grad_v
    part_q = torch.empty((rows.num_slots, Hkv, shape["BLOCK_M"], shape["BLOCK_D"]), **new)
    grad_q_kernel[(len(rows.tiles), Hkv)](
        grad_o, q, k, v, o, lse, delta, grad_q, part_q, rows.tiles, scale,
        *strides, T, Hkv, **shape, **options,
    )  # fmt: skip
    if rows.num_slots:
        sum_kernel[(len(rows.merges), Hkv)](part_q, grad_q, rows.merges, Hkv, **shape)
    part_k = torch.empty((keys.num_slots, Hkv, config.BLOCK_N, shape["BLOCK_D"]), **new)
    part_v = torch.empty_like(part_k)
    grad_kv_kernel[(len(keys.tiles), Hkv)](
        grad_o, q, k, v, lse, delta, grad_k, grad_v, part_k, part_v, keys.tiles, scale,
        *strides, T, Hkv, **shape, **options,
    )  # fmt: skip
    if keys.num_slots:
        key_shape = shape | {"G": 1, "BLOCK_M": config.BLOCK_N}
        for part, grad in ((part_k, grad_k), (part_v, grad_v)):
            sum_kernel[(len(keys.merges), Hkv)](part, grad, keys.merges, Hkv, **key_shape)
    return grad_q, grad_k, grad_v


def _shape(Hq: int, Hkv: int, D: int, BLOCK_M: int) -> dict[str, int]:
    G = Hq // Hkv
    return {
        "G": G,
        "D": D,
        "BLOCK_M": max(BLOCK_M, triton.next_power_of_2(G)),
        "BLOCK_D": max(16, triton.next_power_of_2(D)),
    }


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: BlockLayout) -> None:
    if q.dtype == torch.float64:
        raise ValueError("the Triton kernels take fp32, fp16 and bf16: float64 needs 'reference'")
    if layout.device != q.device:
        raise ValueError(f"the layout lies on {layout.device} and q on {q.device}: use layout.to()")
    if any(x.stride(2) != 1 for x in (q, k, v)):
        raise ValueError("the last dimension of q, k and v must be contiguous")
