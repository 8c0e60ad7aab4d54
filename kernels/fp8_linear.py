"""A linear layer that multiplies fp8 numbers, with a scale an output and a scale a row of inputs.

In: x [..., K] and a weight [N, K] that was quantised by rows. Out: bf16 [..., N].

    weight = quantize_rows(torch.randn(32, 64))
    fp8_linear(torch.randn(5, 64), weight)  # bf16 [5, 32]
    fp8_linears(model)  # a model's linear layers, in place

GPUs of compute capability 8.9 and more multiply such numbers. Elsewhere the same numbers are
multiplied as floats, which tells what fp8 does to a model. What a row loses is in
`kernels.fp8_rows`; one of zeros gives the bias, and one that holds an infinity or NaN gives NaN,
and it alone.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

import torch
from torch import nn

from kernels.dispatch import chosen_implementation
from kernels.fp8_rows import Fp8Rows, rounded_rows
from kernels.linear import linear

# What torch's fp8 product asks of K and N; the number of rows is free.
_MULTIPLE = 16
_LEAST_CAPABILITY = (8, 9)


def quantize_rows(x: torch.Tensor, implementation: str | None = None) -> Fp8Rows:
    """x [R, K] in fp8, each row by its own largest number.

    `implementation` is one of `kernels.dispatch`'s.
    """
    can = multiplies_fp8(x.device)
    if chosen_implementation(x.device, implementation, fits=lambda _: can) == "triton":
        from kernels.triton_fp8 import quantize

        return quantize(x)
    return rounded_rows(x)


def fp8_linear(
    x: torch.Tensor,
    weight: Fp8Rows,
    bias: torch.Tensor | None = None,
    implementation: str | None = None,
) -> torch.Tensor:
    """x [..., K] @ weight.T + bias: bf16 [..., N], sums in fp32 and rounded once.

    On the CPU a row's bits depend on no other row; on a GPU their number may choose another kernel,
    and K and N must be multiples of 16. `implementation` "reference" multiplies floats anywhere.
    Raises `ValueError` where a gradient is wanted: e4m3 has none.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        raise ValueError("no gradient passes through a layer in fp8: load the model in bfloat16")
    rows = quantize_rows(x.reshape(-1, x.shape[-1]), implementation)
    if implementation != "reference" and multiplies_fp8(x.device):
        result = torch._scaled_mm(
            rows.values,
            weight.values.t(),
            scale_a=rows.scale,
            scale_b=weight.scale.t(),
            bias=bias,
            out_dtype=torch.bfloat16,
            # Hopper then keeps about 14 bits of a sum (arXiv 2412.19437, section 3.5.2), far more
            # than the numbers have.
            use_fast_accum=True,
        )
    else:
        sums = linear(rows.values.float(), weight.values.float())
        scaled = sums * rows.scale * weight.scale.t()
        result = (scaled if bias is None else scaled + bias).bfloat16()
    return result.view(*x.shape[:-1], len(weight.values))


class Fp8Linear(nn.Module):
    """`fp8_linear` with the weight and bias of a linear layer; a byte is kept of each number."""

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, layer: nn.Linear, device: torch.device | None = None) -> None:
        """The layer on `device`, or where it is."""
        super().__init__()
        weight = quantize_rows(layer.weight.detach().to(device))
        self.in_features, self.out_features = layer.in_features, layer.out_features
        # A parameter, as others look for a layer's weight; nothing trains it.
        self.weight = nn.Parameter(weight.values, requires_grad=False)
        self.register_buffer("scale", weight.scale)
        bias = None if layer.bias is None else layer.bias.detach().to(device, torch.bfloat16)
        self.register_buffer("bias", bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `fp8_linear`."""
        return fp8_linear(input, Fp8Rows(self.weight, self.scale), self.bias)

    def extra_repr(self) -> str:
        """The sizes, as a linear layer tells them."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def fp8_linears(
    model: nn.Module, but: Collection[nn.Module] = (), device: torch.device | None = None
) -> None:
    """Turn the linear layers of `model` into `Fp8Linear`s on `device`, in place, one by one.

    Those in `but` stay, and so do those whose sizes are no multiples of 16.
    """
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer not in but and _fits(layer):
                setattr(parent, name, Fp8Linear(layer, device))


def multiplies_fp8(device: torch.device) -> bool:
    """Whether products of fp8 numbers run on `device`."""
    return device.type == "cuda" and _capability(device) >= _LEAST_CAPABILITY


def missing_for_fp8(device: torch.device) -> str | None:
    """What `device` lacks for models in fp8, as a clause; None for a CPU, which emulates it."""
    if device.type == "cpu" or multiplies_fp8(device):
        return None
    if device.type != "cuda":
        return f"runs on CUDA devices and, emulated, on the CPU, and not on {device.type}"
    major, minor = _capability(device)
    return (
        f"needs a GPU of compute capability 8.9 or more (Ada, Hopper and later), and "
        f"{torch.cuda.get_device_name(device)} has {major}.{minor}"
    )


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def _fits(layer: nn.Linear) -> bool:
    return layer.in_features % _MULTIPLE == 0 and layer.out_features % _MULTIPLE == 0
