"""Rows of numbers in fp8, each with a scale of its own.

In: x [R, K]. Out: `Fp8Rows`, numbers of a byte each and what a row of them is multiplied by.

    values, scale = rounded_rows(torch.randn(5, 64))

Numbers are e4m3 (arXiv 2209.05433): a sign, 4 bits of exponent, 3 of mantissa, 448 at most. A row's
largest number becomes 448, so a number v of it is kept to max(2^-4 |v|, 2^-10 scale): half a step,
which below 2^-6 scale shrinks no more. A row of zeros stays zeros. One that holds an infinity or
NaN has NaN for its scale: all of it is NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0
# Below fp32's normal numbers a scale would lose bits of its own.
SMALLEST_SCALE = torch.finfo(torch.float32).tiny


class Fp8Rows(NamedTuple):
    """`values` e4m3 [R, K] times `scale` fp32 [R, 1]."""

    values: torch.Tensor
    scale: torch.Tensor


def rounded_rows(x: torch.Tensor) -> Fp8Rows:
    """x [R, K] by its definition: no row knows of another."""
    wide = x.float()
    scale = (wide.abs().amax(1, keepdim=True) / LARGEST).clamp(min=SMALLEST_SCALE)
    scale = scale.where(scale < torch.inf, torch.nan)
    # No quotient rounds to more than the largest number: there is nothing to cut off.
    return Fp8Rows((wide / scale).to(E4M3), scale)
