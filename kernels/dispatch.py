"""Which implementation of an operation runs: the plain reference, the CPU path or Triton.

In: a device and, if the caller forces one, a name. Out: the name that will run, or its module.

    chosen_implementation(torch.device("cpu"))  # 'cpu'
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Literal, get_args

import torch

from kernels.triton_launch import shared_memory

Implementation = Literal["reference", "cpu", "triton"]
IMPLEMENTATIONS: tuple[str, ...] = get_args(Implementation)


def triton_is_interpreted() -> bool:
    """Whether Triton kernels decorated from now on run on the CPU, in Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


def in_autocast_dtype(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` as autocast wants it for a matrix product, where autocast is on."""
    kind = tensor.device.type
    if torch.is_autocast_enabled(kind) and tensor.dtype in (torch.float32, torch.bfloat16):
        return tensor.to(torch.get_autocast_dtype(kind))
    return tensor


def chosen_implementation(
    device: torch.device | str,
    implementation: str | None = None,
    fits: Callable[[int], bool] | None = None,
) -> Implementation:
    """The name of the implementation that runs for tensors on `device`.

    None chooses: `cpu` on the CPU; on a GPU `triton` where it is installed and what is asked for
    `fits` into so many bytes of shared memory; else `reference`. Raises ValueError for an unknown
    name, or one that cannot run on `device`.
    """
    device = torch.device(device)
    has_triton = importlib.util.find_spec("triton") is not None
    if implementation is None:
        if device.type == "cpu":
            return "cpu"
        runs = (
            device.type == "cuda" and has_triton and (fits is None or fits(shared_memory(device)))
        )
        return "triton" if runs else "reference"
    if implementation == "reference":
        return "reference"
    if implementation == "cpu":
        if device.type != "cpu":
            raise ValueError(f"implementation 'cpu' was asked for tensors on {device}")
        return "cpu"
    if implementation == "triton":
        if not has_triton:
            raise ValueError("implementation 'triton' was asked for, and Triton is not installed")
        if device.type != "cuda" and not triton_is_interpreted():
            raise ValueError(
                f"implementation 'triton' was asked for tensors on {device}: it needs a CUDA "
                "device, or TRITON_INTERPRET=1 in the environment before the first use"
            )
        return "triton"
    raise ValueError(
        f"unknown implementation {implementation!r}: choose one of {', '.join(IMPLEMENTATIONS)}"
    )


def chosen_module(
    operation: str,
    q: torch.Tensor,
    kv_heads: int,
    fits: Callable[..., bool],
    implementation: str | None,
) -> ModuleType:
    """The module of the package `operation` that runs for queries `q` [T,Hq,D] and `kv_heads`.

    `fits(D, dtype, group, shared=bytes)` says whether Triton has tiles, as those of
    `kernels.tile_sizes` do. ValueError as `chosen_implementation`.
    """
    _, Hq, D = q.shape

    def fits_here(shared: int) -> bool:
        return fits(D, q.dtype, Hq // kv_heads, shared=shared)

    # Only what runs is imported: Triton is not installed everywhere.
    return import_module(
        f"{operation}.{chosen_implementation(q.device, implementation, fits_here)}"
    )
