"""A linear layer whose rows have the same bits in any company.

In: x [..., K], a weight [N, K], a bias. Out: [..., N].

    linear(torch.randn(5, 8), torch.randn(3, 8))  # [5, 3]
    steady_linears(model)  # all of a model's linear layers, in place

A matrix product on the CPU chooses how it adds up by its number of rows and of threads: measured,
rows of fp32 products change in the last bit below 16 rows, and with two threads below about 200.
Here every product runs in one thread and has at least `_FEWEST_ROWS` rows. In bf16 a CPU with a
matrix unit adds short sums alike whatever is asked: one product does for all rows. Longer sums, and
other CPUs, change with every number of rows: there all products have `_BF16_ROWS`.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from kernels.threads import in_threads

_FEWEST_ROWS = 16
_BF16_ROWS = 256
# No row of a bf16 product of so many inputs or fewer changed a bit on AMX, in any number of rows to
# 300, some to 700, one to 16 threads. Of 511 inputs some did in 4 threads; from 512 on many do.
_AMX_INPUTS = 384


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., K] @ weight.T + bias: [..., N].

    On the CPU, where no gradient is asked for, a row's bits depend on no other row. Elsewhere this
    is torch's own linear layer.
    """
    wants_gradient = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (x, weight, bias) if tensor is not None
    )
    if x.device.type != "cpu" or wants_gradient or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    if x.dtype != torch.bfloat16:
        result = _of_enough_rows(rows, weight, bias)
    elif adds_alike(x.shape[-1]):
        result = F.linear(rows, weight, bias)
    else:
        result = _of_equal_pieces(rows, weight, bias)
    return result.view(*x.shape[:-1], weight.shape[0])


class SteadyLinear(nn.Linear):
    """`nn.Linear` by `linear`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `linear`."""
        return linear(input, self.weight, self.bias)


def steady_linears(model: nn.Module) -> None:
    """Turn the linear layers of `model` into `SteadyLinear`s, in place: weights and names stay."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = SteadyLinear


def adds_alike(inputs: int) -> bool:
    """Whether a bf16 product of so many inputs adds up a row alike, whatever the number of rows."""
    return inputs <= _AMX_INPUTS and has_amx()


@cache
def has_amx() -> bool:
    """Whether bf16 products run on the CPU's matrix unit."""
    told = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(told and told() and torch.backends.mkldnn.is_available())


@cache
def has_bfloat16_units() -> bool:
    """Whether the CPU multiplies bf16 itself (AMX, avx512_bf16), and not by way of fp32."""
    vectors = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return has_amx() or bool(vectors and vectors() and torch.backends.mkldnn.is_available())


def _of_enough_rows(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """One product a thread, of any number of rows that is large enough."""
    if len(x) < _FEWEST_ROWS:
        padded = F.pad(x, (0, 0, 0, _FEWEST_ROWS - len(x)))
        return _of_enough_rows(padded, weight, bias)[: len(x)]
    threads = torch.get_num_threads()
    if threads == 1:
        return F.linear(x, weight, bias)
    # As many pieces as threads, where there are rows enough; the last may overlap the one before.
    count = max(1, min(threads, len(x) // _FEWEST_ROWS))
    size = max(_FEWEST_ROWS, -(-len(x) // count))
    result = x.new_empty(len(x), weight.shape[0])

    def fill(start: int) -> None:
        result[start : start + size] = F.linear(x[start : start + size], weight, bias)

    for _ in in_threads(fill, [min(start, len(x) - size) for start in range(0, len(x), size)]):
        pass
    return result


def _of_equal_pieces(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Products of one number of rows, each written where its rows are; only the last is padded."""
    size = _BF16_ROWS
    result = x.new_empty(-(-len(x) // size) * size, weight.shape[0])
    transposed = weight.t()

    def fill(start: int) -> None:
        rows, out = x[start : start + size], result[start : start + size]
        if len(rows) < size:
            rows = F.pad(rows, (0, 0, 0, size - len(rows)))
        if bias is None:
            torch.mm(rows, transposed, out=out)
        else:
            torch.addmm(bias, rows, transposed, out=out)

    for _ in in_threads(fill, range(0, len(x), size)):
        pass
    return result[: len(x)]
