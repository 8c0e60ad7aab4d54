"""Keys or values of cached tokens in 16, 8 or 4 bits, with one scale per token and head.

In: x [T,Hkv,D]. Out: `QuantizedTokens`, whose slices are floats again.

    quantize_tokens(torch.randn(10, 2, 64), bits=8)[2:5]  # float32 [3,2,64]

Symmetric: x = scale * n with whole n in [-127, 127] or [-7, 7] and scale = max|x| / 127 or / 7 over
the token's head. Of a 4-bit pair, dimension 2i is the low half of a byte and 2i + 1 the high half,
both stored as n + 8.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

_LARGEST = {8: 127, 4: 7}


class QuantizedTokens(NamedTuple):
    """`values`: float [T,H,D], int8 [T,H,D], or uint8 [T,H,D/2]; `scale`: float [T,H], or None."""

    values: torch.Tensor
    scale: torch.Tensor | None = None

    @property
    def bits(self) -> int:
        """4, 8, or the width of a float type."""
        return 4 if self.values.dtype == torch.uint8 else self.values.dtype.itemsize * 8

    @property
    def shape(self) -> torch.Size:
        """[T,H,D] of the tokens, whatever they are stored as."""
        T, H, width = self.values.shape
        return torch.Size((T, H, width * 2 if self.bits == 4 else width))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the floats that a slice gives."""
        return self.values.dtype if self.scale is None else torch.float32

    @property
    def device(self) -> torch.device:
        """Where the tokens lie."""
        return self.values.device

    def heads(self, heads: slice) -> QuantizedTokens:
        """The tokens of some of the heads, as a view."""
        scale = None if self.scale is None else self.scale[:, heads]
        return QuantizedTokens(self.values[:, heads], scale)

    def tokens(self, span: slice | torch.Tensor) -> torch.Tensor:
        """Some of the tokens as floats [t,H,D]."""
        values = self.values[span]
        if self.scale is None:
            return values
        if self.bits == 4:
            # One look-up a byte is three times as fast as taking its halves apart.
            pairs = _pairs(values.device).index_select(0, values.flatten().int())
            floats = torch.view_as_real(pairs).view(*values.shape[:2], values.shape[2] * 2)
        else:
            floats = values.float()
        return floats.mul_(self.scale[span].float()[..., None])


def quantize_tokens(
    x: torch.Tensor, bits: int, scale_dtype: torch.dtype = torch.float32
) -> QuantizedTokens:
    """x [T,H,D] in 8 or 4 bits; the error is at most half a scale. ValueError for other bits.

    A `scale_dtype` of fewer bits may round a scale down and cut the largest numbers a little more.
    """
    if bits not in _LARGEST or (bits == 4 and x.shape[2] % 2):
        raise ValueError(f"bits must be 8, or 4 with an even head size; got {bits}, {x.shape[2]}")
    wide, largest = x.float(), _LARGEST[bits]
    scale = (wide.abs().amax(2) / largest).to(scale_dtype)
    # A token of zeros has scale 0; any divisor keeps its zeros.
    divisor = torch.where(scale == 0, 1.0, scale.float())[..., None]
    whole = torch.round(wide / divisor).clamp_(-largest, largest)
    if bits == 8:
        return QuantizedTokens(whole.to(torch.int8), scale)
    low, high = (whole + 8).to(torch.uint8).unflatten(2, (-1, 2)).unbind(-1)
    return QuantizedTokens(low | high << 4, scale)


@cache
def _pairs(device: torch.device) -> torch.Tensor:
    """complex64 [256]: the two numbers in each byte."""
    byte = torch.arange(256, device=device)
    return torch.complex((byte & 15).float() - 8, (byte >> 4).float() - 8)
