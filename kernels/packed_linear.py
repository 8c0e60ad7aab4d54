"""A linear layer on one thread of the CPU whose weight lies as oneDNN's products read it.

In: bf16 rows [R, K]. Out: [R, N], with what follows the product already done to its sums: a GELU,
or another tensor added.

    PackedLinear(weight, bias)(torch.randn(5, 8).bfloat16(), gelu=True)  # [5, 3]

torch's own linear layer lays the weight out anew at every call, which takes as long as the product
of a hundred rows. Here this is done once, so that small tiles are as fast as large ones, and stay
in the core's cache from layer to layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch.nn import functional as F

from kernels.linear import adds_alike

# Rows of a tile: its 1,536 intermediate numbers in bf16 are .8 MB, which a core's cache holds.
TILE_ROWS = 256
# Each number of rows is a kernel that oneDNN makes at first use, in 1 to 4 ms: few are enough.
_SIZES = (16, 32, 64, 128, TILE_ROWS)
# The step between larger numbers.
_STEP = 128


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this CPU has such products in `dtype`, and they pay: in bf16 alone.

    In fp32 the whole of `mini` in tiles took 1.1 times what it takes by products of all rows.
    """
    if dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    # Its products on other processors come from another library, of which nothing was measured.
    known = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    return known and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def padded_rows(count: int) -> int:
    """The rows that `count` rows are padded to."""
    if count > TILE_ROWS:
        return -(-count // _STEP) * _STEP
    return next(size for size in _SIZES if size >= count)


class RowLinear(Protocol):
    """A linear layer that one thread calls, with what follows its product."""

    def __call__(
        self, x: torch.Tensor, *, gelu: bool = False, plus: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The product [R, N] of x [R, K]; then its GELU (by erf), or `plus` [R, N] added to it."""


def row_linear(weight: torch.Tensor, bias: torch.Tensor | None) -> RowLinear:
    """`PackedLinear` in a dtype that `can_pack`, else `PlainLinear`."""
    return (PackedLinear if can_pack(weight.dtype) else PlainLinear)(weight, bias)


class PlainLinear:
    """x @ weight.T + bias by torch's own product, whose weight is read where it lies.

    Of 16 rows or more, called within one thread, a row's bits depend on no other row
    (`kernels.linear`).
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight.detach()
        self._bias = None if bias is None else bias.detach()

    def __call__(
        self, x: torch.Tensor, *, gelu: bool = False, plus: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As `RowLinear`."""
        made = F.linear(x, self._weight, self._bias)
        if gelu:
            made = F.gelu(made)
        return made if plus is None else made.add_(plus)


class PackedLinear:
    """x @ weight.T + bias for a `weight` [N, K] and `bias` [N] of a dtype that `can_pack`.

    Keeps a copy of the weight: later changes of it go unseen.
    A row's bits depend on no other row, nor on their number, where it is called within one thread
    (`kernels.threads`): what `kernels.linear` says of sums that add up alike holds here, and other
    sums always have `TILE_ROWS` rows.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(
            weight.detach().contiguous(), TILE_ROWS
        )
        self._bias = None if bias is None else bias.detach()
        self._fixed = not adds_alike(weight.shape[1])

    def __call__(
        self, x: torch.Tensor, *, gelu: bool = False, plus: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As `RowLinear`; GELU and addition happen in fp32, before the result is rounded."""
        rows = len(x)
        if self._fixed and rows > TILE_ROWS:
            tiles = zip(x.split(TILE_ROWS), _split(plus, rows), strict=True)
            return torch.cat([self(tile, gelu=gelu, plus=added) for tile, added in tiles])
        size = TILE_ROWS if self._fixed else padded_rows(rows)
        if rows < size:
            x = F.pad(x, (0, 0, 0, size - rows))
            plus = None if plus is None else F.pad(plus, (0, 0, 0, size - rows))
        if plus is not None:
            made = torch.ops.mkldnn._linear_pointwise.binary(
                x, plus, self._weight, self._bias, "add"
            )
        else:
            attribute = "gelu" if gelu else "none"
            made = torch.ops.mkldnn._linear_pointwise(
                x, self._weight, self._bias, attribute, [], "none"
            )
        result: torch.Tensor = made[:rows]
        return result


def _split(plus: torch.Tensor | None, rows: int) -> Sequence[torch.Tensor | None]:
    return [None] * -(-rows // TILE_ROWS) if plus is None else plus.split(TILE_ROWS)
