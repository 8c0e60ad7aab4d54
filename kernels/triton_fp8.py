"""Rows in fp8 on NVIDIA GPUs: one program reads a row and writes it.

In: x [R, K]. Out: `Fp8Rows` with the bits of `kernels.fp8_rows`; on capability 8.9, where Triton
rounds to fp16 on the way, a number next to the middle of two may become the other one.

    quantize(x)  # of a CUDA tensor
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from kernels.fp8_rows import E4M3, LARGEST, SMALLEST_SCALE, Fp8Rows
from kernels.tile_sizes import power_of_two
from kernels.triton_launch import Launch

_BLOCK_K = 4096


@triton.jit
def quantize_kernel(
    x, values, scales, stride, LARGEST: tl.constexpr, SMALLEST_SCALE: tl.constexpr,
    K: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """values [R, K] and scales [R] of x [R, K], whose rows lie `stride` apart."""
    row = tl.program_id(0).to(tl.int64)
    largest = 0.0
    for first in range(0, K, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        some = tl.load(x + row * stride + k, mask=k < K, other=0.0).to(tl.float32)
        # A maximum passes over NaN.
        some = tl.where(some == some, tl.abs(some), float("inf"))
        largest = tl.maximum(largest, tl.max(some, 0))
    # A plain division is approximate, and some numbers would round the other way.
    own = tl.maximum(tl.div_rn(largest, LARGEST), SMALLEST_SCALE)
    own = tl.where(largest < float("inf"), own, float("nan"))
    tl.store(scales + row, own)
    for first in range(0, K, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        some = tl.load(x + row * stride + k, mask=k < K, other=0.0).to(tl.float32)
        tl.store(values + row * K + k, tl.div_rn(some, own).to(tl.float8e4nv), mask=k < K)


def quantize_launch(K: int) -> Launch:
    """What rows of `K` numbers run with."""
    sizes = {"K": K, "BLOCK_K": min(_BLOCK_K, power_of_two(K))}
    constants = {"LARGEST": LARGEST, "SMALLEST_SCALE": SMALLEST_SCALE}
    return Launch(quantize_kernel, constants | sizes, num_warps=8)


def quantize(x: torch.Tensor) -> Fp8Rows:
    """x [R, K] in fp8."""
    R, K = x.shape
    x = x if x.stride(1) == 1 else x.contiguous()
    values = torch.empty(R, K, dtype=E4M3, device=x.device)
    scale = torch.empty(R, 1, dtype=torch.float32, device=x.device)
    if R:
        quantize_launch(K)[(R,)](x, values, scale, x.stride(0))
    return Fp8Rows(values, scale)
