"""Store passage states in 32, 16, 8, 6 or 4 bits, and read some of them back.

Enters: states [T, H, D]. Leaves: tensors by name, for a file or for memory, and floats again.

    stored = encode("k.3", torch.randn(10, 2, 64), bits=8)  # {"k.3": int8, "k.3.scale": fp16}

8 and 4 bits carry one scale for at most 64 neighbouring numbers of a token and head
(`kernels.quantized`); in 4 bits also the middle of their range, because keys lie far from 0. In 4
bits the *salient* tokens keep 8: one list of them serves every tensor. 6 stands for 8 bits for keys
and 4 for the values of attention: keys decide where attention goes, and suffer far more from
rounding (KIVI, arXiv 2402.02750).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from kernels import QuantizedTokens, quantize_tokens

PRECISIONS = (32, 16, 8, 6, 4)
_GROUP = 64
_SCALE = ".scale"
_MIDDLE = ".middle"
_SALIENT = ".salient"
_FLOATS = {32: torch.float32, 16: torch.float16}


class Rows(NamedTuple):
    """Which tokens to read: `tokens`, and which of those are salient and where their copies lie.

    `salient` int64 are places within what is read, `copies` int64 places in the salient tensor.
    """

    tokens: slice | torch.Tensor
    salient: torch.Tensor | None = None
    copies: torch.Tensor | None = None


def encode(
    name: str, x: torch.Tensor, bits: int, salient: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """The tensors that stand for x [T, H, D] called `name`; `salient` is bool [T]."""
    x = x.detach().to("cpu", torch.float32)
    if bits in _FLOATS:
        # A number that fp16 can't hold would come back as infinity.
        largest = torch.finfo(_FLOATS[bits]).max
        return {name: x.clamp(-largest, largest).to(_FLOATS[bits]).contiguous()}
    stored = _quantized(name, x, bits)
    if salient is not None:
        stored |= _quantized(name + _SALIENT, x[salient], 8)
    return stored


def decode(
    name: str, stored: Mapping[str, torch.Tensor], rows: Rows, head_size: int
) -> torch.Tensor:
    """[t, H, D] of the tokens `rows`: fp32, or fp16 where it is stored so."""
    values = _read(name, stored, rows.tokens, head_size)
    if rows.salient is not None and rows.copies is not None and len(rows.salient):
        values[rows.salient] = _read(name + _SALIENT, stored, rows.copies, head_size)
    return values


def rounding_error(x: torch.Tensor) -> torch.Tensor:
    """float32 [T]: what 4 bits lose of each token, relative to the mean size of all tokens."""
    x = x.float()
    grouped = _grouped(x)
    middle = _middle(grouped).float()[..., None]
    near = grouped - middle
    lost = quantize_tokens(near, 4, torch.float16).tokens(slice(None)) - near
    size = x.square().sum((1, 2)).mean().clamp(min=torch.finfo(torch.float32).tiny)
    return lost.square().sum((1, 2)) / size


def _quantized(name: str, x: torch.Tensor, bits: int) -> dict[str, torch.Tensor]:
    grouped = _grouped(x)
    middle = {}
    if bits == 4:
        middle = {name + _MIDDLE: _middle(grouped)}
        grouped = grouped - middle[name + _MIDDLE].float()[..., None]
    values, scale = quantize_tokens(grouped, bits, torch.float16)
    assert scale is not None
    return {name: values.contiguous(), name + _SCALE: scale.contiguous(), **middle}


def _middle(grouped: torch.Tensor) -> torch.Tensor:
    """fp16 [T, groups]: the middle between the smallest and the largest number."""
    return ((grouped.amin(2) + grouped.amax(2)) / 2).to(torch.float16)


def _grouped(x: torch.Tensor) -> torch.Tensor:
    """[T, H, D] as [T, H * groups, D / groups]; a group has at most 64 numbers."""
    T, H, D = x.shape
    groups = -(-D // _GROUP)
    while D % groups or ((D // groups) % 2 and groups < D):
        groups += 1
    return x.reshape(T, H * groups, D // groups)


def _read(
    name: str, stored: Mapping[str, torch.Tensor], rows: slice | torch.Tensor, head_size: int
) -> torch.Tensor:
    values = _rows(stored[name], rows)
    scale = stored.get(name + _SCALE)
    if scale is None:
        return values
    floats = QuantizedTokens(values, _rows(scale, rows)).tokens(slice(None))
    middle = stored.get(name + _MIDDLE)
    if middle is not None:
        floats += _rows(middle, rows).float()[..., None]
    return floats.view(len(floats), -1, head_size)


def _rows(x: torch.Tensor, rows: slice | torch.Tensor) -> torch.Tensor:
    return x[rows] if isinstance(rows, slice) else x.index_select(0, rows)
