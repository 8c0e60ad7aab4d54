"""A linear layer whose rows have the same bits in any company.

In: x [..., K], a weight [N, K], a bias. Out: [..., N].

    linear(torch.randn(5, 8), torch.randn(3, 8))  # [5, 3]
    steady_linears(model)  # all of a model's linear layers, in place

A matrix product on the CPU chooses how it adds up by its number of rows and of threads: measured,
rows of fp32 products change in the last bit below 16 rows, and with two threads below about 200.
Here every product runs in one thread and has at least `_FEWEST_ROWS` rows; in bf16, whose kernels
differ for every number of rows, all products have `_BF16_ROWS`.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from kernels.threads import in_threads

_FEWEST_ROWS = 16
_BF16_ROWS = 256


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
    product = _of_equal_pieces if x.dtype == torch.bfloat16 else _of_enough_rows
    return product(rows, weight, bias).view(*x.shape[:-1], weight.shape[0])


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
    # At least two pieces, or the only one would run in all threads; short ones may overlap.
    count = max(2, min(threads, len(x) // _FEWEST_ROWS))
    size = max(_FEWEST_ROWS, -(-len(x) // count))
    starts = [min(start, len(x) - size) for start in range(0, len(x), size)]
    return _pieces(x, weight, bias, starts if len(starts) > 1 else starts * 2, size)


def _of_equal_pieces(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    size = _BF16_ROWS
    padded = F.pad(x, (0, 0, 0, -len(x) % size))
    starts = list(range(0, len(padded), size))
    starts = starts * 2 if len(starts) == 1 and torch.get_num_threads() > 1 else starts
    return _pieces(padded, weight, bias, starts, size)[: len(x)]


def _pieces(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    starts: list[int],
    size: int,
) -> torch.Tensor:
    result = x.new_empty(len(x), weight.shape[0])

    def fill(start: int) -> None:
        result[start : start + size] = F.linear(x[start : start + size], weight, bias)

    for _ in in_threads(fill, starts):
        pass
    return result
