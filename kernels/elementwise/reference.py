"""The row-wise operations in plain torch: what transformers' own modules compute, differentiable.

In and out as `kernels.elementwise`, which checks the arguments. Every operation of torch rounds its
result to the inputs' dtype, as it does in those modules; norms are computed in fp32 (float64 for
float64 inputs).

    rms_norm(torch.randn(5, 8), torch.ones(8), 1e-6)
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from kernels.padding import wide_dtype


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """[..., D]; the normalised row is rounded before the weight multiplies it, as in Llama."""
    wide = x.to(wide_dtype(x.dtype))
    mean_square = wide.pow(2).mean(-1, keepdim=True)
    return weight * (wide * torch.rsqrt(mean_square + eps)).to(x.dtype)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum, and `rms_norm` of the sum as it was rounded."""
    total = residual + x
    return total, rms_norm(total, weight, eps)


def rotary(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """q [T,Hq,D] and k [T,Hkv,D], rotated."""
    return _rotated(q, cos, sin), _rotated(k, cos, sin)


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    low, high = x.chunk(2, dim=-1)
    return x * cos[:, None] + torch.cat((-high, low), dim=-1) * sin[:, None]


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """[..., D]."""
    return F.silu(gate) * up


def bias_gelu(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """[..., D]."""
    return F.gelu(x + bias)


def add_layer_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """[..., D]."""
    return F.layer_norm(x + residual, x.shape[-1:], weight, bias, eps)
