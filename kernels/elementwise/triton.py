"""The row-wise operations on NVIDIA GPUs: launches the Triton kernels beside this file.

In and out as `kernels.elementwise`, which checks the arguments. Every tensor is read once and
written once. Launches follow from widths alone, never from the number of rows.

    rms_norm(x, weight, 1e-6)  # CUDA tensors
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from kernels.elementwise.triton_kernels import (
    bias_gelu_kernel,
    layer_norm_kernel,
    rms_norm_kernel,
    rotary_kernel,
    swiglu_kernel,
)
from kernels.tile_sizes import power_of_two
from kernels.triton_launch import Launch

# Numbers that a program holds of each tensor, where one row is not more: 16 a thread of 4 warps.
_TILE = 2048


@lru_cache
def rms_norm_launch(D: int, add: bool) -> Launch:
    """What norms of `D` numbers run, with `add` of a sum."""
    return _of_whole_rows(rms_norm_kernel, D, ADD=add)


@lru_cache
def layer_norm_launch(D: int) -> Launch:
    """What layer norms of sums of `D` numbers run."""
    return _of_whole_rows(layer_norm_kernel, D)


@lru_cache
def swiglu_launch(D: int) -> Launch:
    """What rows of `D` gates and factors run, a program each `BLOCK_D` of a row."""
    return _of_pieces(swiglu_kernel, D)


@lru_cache
def bias_gelu_launch(D: int) -> Launch:
    """What rows of `D` numbers run, a program each `BLOCK_D` of a row."""
    return _of_pieces(bias_gelu_kernel, D)


@lru_cache
def rotary_launch(Hq: int, Hkv: int, D: int) -> Launch:
    """What a token of so many heads runs."""
    half = power_of_two(D // 2)
    heads = min(power_of_two(max(Hq, Hkv)), max(1, _TILE // half))
    constants = {"HQ": Hq, "HKV": Hkv, "D": D, "BLOCK_H": heads, "BLOCK_D": half}
    return Launch(rotary_kernel, constants)


def _of_whole_rows(kernel: Any, D: int, **constants: Any) -> Launch:
    width = power_of_two(D)
    sizes = {"D": D, "ROWS": max(1, _TILE // width), "BLOCK_D": width}
    return Launch(kernel, sizes | constants, num_warps=min(16, max(4, width // 1024)))


def _of_pieces(kernel: Any, D: int) -> Launch:
    return Launch(kernel, {"D": D, "BLOCK_D": min(_TILE, power_of_two(D))})


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """[..., D]; the normalised row is rounded before the weight multiplies it, as in Llama."""
    x = x.contiguous()
    out = _empty(x)
    # Without a residual neither it nor the sum is touched: any tensor will do in their places.
    _run_rows(rms_norm_launch(x.shape[-1], add=False), x, x, weight, out, out, eps=eps)
    return out


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum, and `rms_norm` of the sum as it was rounded."""
    x, residual = x.contiguous(), residual.contiguous()
    total, out = _empty(x), _empty(x)
    _run_rows(rms_norm_launch(x.shape[-1], add=True), x, residual, weight, total, out, eps=eps)
    return total, out


def add_layer_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """[..., D]; the sum is not rounded before it is normalised."""
    x, residual = x.contiguous(), residual.contiguous()
    out = _empty(x)
    _run_rows(layer_norm_launch(x.shape[-1]), x, residual, weight, bias, out, eps=eps)
    return out


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """[..., D]; rounded once, behind the product."""
    return _pieces(swiglu_launch(gate.shape[-1]), [gate, up])


def bias_gelu(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """[..., D]; rounded once, behind the GELU."""
    return _pieces(bias_gelu_launch(x.shape[-1]), [x], bias)


def rotary(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """q [T,Hq,D] and k [T,Hkv,D], rotated; rounded once, behind the sum."""
    (T, Hq, D), Hkv = q.shape, k.shape[1]
    out_q, out_k = _empty(q), _empty(k)
    if T:
        strides = [s for x in (q, k) for s in x.stride()[:2]]
        strides += [cos.stride(0), sin.stride(0)]
        rotary_launch(Hq, Hkv, D)[(T,)](q, k, cos, sin, out_q, out_k, *strides)
    return out_q, out_k


def _run_rows(launch: Launch, *tensors: torch.Tensor, eps: float) -> None:
    """Whole rows of the first tensor's shape."""
    rows = tensors[0].numel() // launch.constants["D"]
    if rows:
        programs = -(-rows // launch.constants["ROWS"])
        launch[(programs,)](*tensors, rows, eps)


def _pieces(launch: Launch, inputs: list[torch.Tensor], *shared: torch.Tensor) -> torch.Tensor:
    """One output of the `inputs`' shape; their rows may lie apart, `shared` vectors are whole."""
    D = launch.constants["D"]
    rows = [x.reshape(-1, D) for x in inputs]
    out = _empty(inputs[0])
    if out.numel():
        grid = (len(rows[0]), -(-D // launch.constants["BLOCK_D"]))
        launch[grid](*rows, *shared, out, *(x.stride(0) for x in rows))
    return out


def _empty(x: torch.Tensor) -> torch.Tensor:
    """Room for a result like `x`, contiguous whatever `x` is."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)
