"""What a Triton kernel is launched as: the kernel, its compile-time constants, warps and stages.

Made by functions beside the kernels from a tile and a shape alone, so that tests compile what runs.

    launch[(tiles, heads)](q, k, v)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from kernels.layout import PassageSpans
from kernels.tile_sizes import Tile

# Shared memory of an H100's block: the interpreter, which has no limit, takes its tiles.
_INTERPRETED = 232_448


@dataclass(frozen=True)
class Launch:
    """`constants` are the kernel's by name; `num_warps` and `num_stages` as Triton means them."""

    kernel: Any
    constants: dict[str, Any]
    num_warps: int = 4
    num_stages: int = 3

    @classmethod
    def of(cls, kernel: Any, tile: Tile, **constants: Any) -> Launch:
        """A `kernel` of matrix products with the sizes of `tile`."""
        return cls(kernel, tile.sizes | constants, tile.num_warps, tile.num_stages)

    @classmethod
    def of_rows(cls, kernel: Any, tile: Tile, **constants: Any) -> Launch:
        """A `kernel` that puts partial results of `tile`'s rows together: it reads no keys."""
        sizes = {name: size for name, size in tile.sizes.items() if name != "BLOCK_N"}
        return cls(kernel, sizes | constants)

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        """Run the kernel with the arguments of the call, a program for each place of `grid`."""

        def run(*arguments: Any) -> None:
            options = {"num_warps": self.num_warps, "num_stages": self.num_stages}
            self.kernel[grid](*arguments, **self.constants, **options)

        return run


def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a block may use on `device`."""
    return _of_gpu(device) if device.type == "cuda" else _INTERPRETED


def fitting(tile: Tile | None, q: torch.Tensor) -> Tile:
    """`tile`; ValueError where none fits what queries `q` ask for."""
    if tile is None:
        raise ValueError(
            f"a head of {q.shape[-1]} in {q.dtype} does not fit the shared memory of {q.device}: "
            "the Triton kernels can't take it, and implementation 'reference' can"
        )
    return tile


def check_readable(layout: PassageSpans, q: torch.Tensor, *others: torch.Tensor) -> None:
    """Raise ValueError for what the Triton kernels cannot read."""
    if q.dtype == torch.float64:
        raise ValueError("the Triton kernels take fp32, fp16 and bf16: float64 needs 'reference'")
    if layout.device != q.device:
        raise ValueError(f"the layout lies on {layout.device} and q on {q.device}: build it there")
    if any(x.stride(2) != 1 for x in (q, *others)):
        raise ValueError("the last dimension of queries, keys and values must be contiguous")


@lru_cache
def _of_gpu(device: torch.device) -> int:
    properties: Any = torch.cuda.get_device_properties(device)
    return int(properties.shared_memory_per_block_optin)
