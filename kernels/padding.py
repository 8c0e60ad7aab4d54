"""Copy ragged spans of tokens into blocks of one shape, and back.

In: packed tokens [T,H,D], any strides, and for each of n items the spans it is made of. Out:
[n,H,pad,D], zeros behind each item, so that no other token is ever read.

    gather(torch.randn(9, 2, 4), [(Span(0, 3),), (Span(0, 1), Span(5, 9))], pad=16,
           dtype=torch.float32)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kernels.layout import Span
from kernels.quantized import QuantizedTokens

Tokens = torch.Tensor | QuantizedTokens


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that arithmetic is done in: float64 for float64, else fp32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def gather(
    x: Tokens, spans: Sequence[tuple[Span, ...]], pad: int, dtype: torch.dtype
) -> torch.Tensor:
    """[n,H,pad,D]: the tokens of each item's spans one after the other, then zeros."""
    _, H, D = x.shape
    padded = torch.empty((len(spans), pad, H, D), dtype=dtype, device=x.device)
    for row, pieces in zip(padded, spans, strict=True):
        filled = 0
        for start, end in pieces:
            row[filled : filled + end - start] = _tokens(x, start, end)
            filled += end - start
        row[filled:].zero_()
    return padded.transpose(1, 2)


def scatter_add(grad: torch.Tensor, part: torch.Tensor, spans: Sequence[tuple[Span, ...]]) -> None:
    """Add part [n,H,pad,D] to the rows of grad [T,H,D] that `gather` would read; pads are left."""
    for padded, pieces in zip(part.transpose(1, 2), spans, strict=True):
        filled = 0
        for start, end in pieces:
            grad[start:end] += padded[filled : filled + end - start]
            filled += end - start


def _tokens(x: Tokens, start: int, end: int) -> torch.Tensor:
    return x[start:end] if isinstance(x, torch.Tensor) else x.tokens(slice(start, end))
