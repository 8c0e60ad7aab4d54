"""Inputs of the row-wise operations that their tests share."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from kernels import elementwise

EPS = 1e-6


class Operation(NamedTuple):
    """One of them: how many tensors [..., D] and then vectors [D] it takes, and whether an eps."""

    function: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
    rows: int
    vectors: int
    has_eps: bool = True

    def inputs(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: str = "cpu"
    ) -> list[torch.Tensor]:
        """Random ones, the same in every run."""
        generator = torch.Generator().manual_seed(len(shape) + shape[-1])
        shapes = [shape] * self.rows + [shape[-1:]] * self.vectors
        return [torch.randn(one, generator=generator).to(device, dtype) for one in shapes]

    def __call__(
        self, inputs: list[torch.Tensor], implementation: str | None = None
    ) -> tuple[torch.Tensor, ...]:
        """The results, also where there is one."""
        eps = [EPS] * self.has_eps
        found = self.function(*inputs, *eps, implementation=implementation)
        return found if isinstance(found, tuple) else (found,)


OPERATIONS = {
    "rms_norm": Operation(elementwise.rms_norm, 1, 1),
    "add_rms_norm": Operation(elementwise.add_rms_norm, 2, 1),
    "add_layer_norm": Operation(elementwise.add_layer_norm, 2, 2),
    "swiglu": Operation(elementwise.swiglu, 2, 0, has_eps=False),
    "bias_gelu": Operation(elementwise.bias_gelu, 1, 1, has_eps=False),
}


def angles(
    tokens: int, D: int, dtype: torch.dtype, device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [T,D] whose halves differ, so that a kernel that mixes them up is caught."""
    turns = torch.randn(tokens, D, generator=torch.Generator().manual_seed(tokens))
    return turns.cos().to(device, dtype), turns.sin().to(device, dtype)
