"""What a transformer does to each row between two matrix products, each in one pass over memory.

In: activations [..., D] whose last dimension is contiguous, and a layer's vectors [D]. Out: tensors
of the same shape and dtype. A row's bits depend on no other row, nor on their number.

    total, normed = add_rms_norm(x, residual, weight, eps=1e-6)

For inference: where a gradient is asked for, and on the CPU, these are the plain torch operations
of `reference`, which are what transformers' modules compute. `implementation` forces `reference`,
`cpu` (the same) or `triton` (see `kernels.dispatch`). All raise ValueError for shapes, dtypes or
devices that do not fit together.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import torch

from kernels.dispatch import chosen_implementation
from kernels.elementwise import reference

# Numbers of a row that a Triton program can hold: 64 a thread of 16 warps; more would spill.
WIDEST = 32_768


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, *, implementation: str | None = None
) -> torch.Tensor:
    """x / sqrt(mean(x ** 2) + eps) * weight over the last dimension (arXiv 1910.07467).

    Computed in fp32 and rounded twice, as Llama, Mistral and Qwen do: before the weight and after.
    """
    _check_alike(x=x)
    _check_vectors(x, weight=weight)
    found: torch.Tensor = _module(implementation, x, weight).rms_norm(x, weight, eps)
    return found


def add_rms_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    implementation: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x + residual, and `rms_norm` of that sum as it was rounded."""
    _check_alike(x=x, residual=residual)
    _check_vectors(x, weight=weight)
    module = _module(implementation, x, residual, weight)
    total, normed = module.add_rms_norm(x, residual, weight, eps)
    return total, normed


def add_layer_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    *,
    implementation: str | None = None,
) -> torch.Tensor:
    """Layer norm of x + residual over the last dimension (arXiv 1607.06450).

    Triton's kernel computes all of it in fp32 and rounds once; `reference` also rounds the sum.
    """
    _check_alike(x=x, residual=residual)
    _check_vectors(x, weight=weight, bias=bias)
    module = _module(implementation, x, residual, weight, bias)
    found: torch.Tensor = module.add_layer_norm(x, residual, weight, bias, eps)
    return found


def swiglu(
    gate: torch.Tensor, up: torch.Tensor, *, implementation: str | None = None
) -> torch.Tensor:
    """silu(gate) * up (arXiv 2002.05202).

    Triton's kernel computes all of it in fp32 and rounds once; `reference` also rounds the SiLU.
    """
    _check_alike(gate=gate, up=up)
    found: torch.Tensor = _module(implementation, gate, up).swiglu(gate, up)
    return found


def bias_gelu(
    x: torch.Tensor, bias: torch.Tensor, *, implementation: str | None = None
) -> torch.Tensor:
    """GELU of x + bias, by the error function (arXiv 1606.08415).

    Triton's kernel computes all of it in fp32 and rounds once; `reference` also rounds the sum.
    """
    _check_alike(x=x)
    _check_vectors(x, bias=bias)
    found: torch.Tensor = _module(implementation, x, bias).bias_gelu(x, bias)
    return found


def rotary(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    implementation: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """q [T,Hq,D] and k [T,Hkv,D] turned by each token's angles, whose cos and sin are [T,D].

    Halves of a head are turned against each other, as transformers' `rotate_half` does
    (arXiv 2104.09864). Any strides whose last dimension is contiguous are read in place: what
    transformers hands over, [1,H,T,D], comes as `x[0].transpose(0, 1)`. Triton's kernel computes
    in fp32 and rounds once; `reference` rounds both products and their sum.
    """
    if q.dim() != 3 or k.dim() != 3 or q.shape[::2] != k.shape[::2] or q.shape[2] % 2:
        raise ValueError(
            "q must be [T,Hq,D] and k [T,Hkv,D] with an even D; "
            f"got {tuple(q.shape)} and {tuple(k.shape)}"
        )
    if not (cos.shape == sin.shape == q.shape[::2]):
        raise ValueError(
            f"cos and sin must be [T,D] = {tuple(q.shape[::2])}; "
            f"got {tuple(cos.shape)} and {tuple(sin.shape)}"
        )
    tensors = {"q": q, "k": k, "cos": cos, "sin": sin}
    _check_kinds(**tensors)
    turned_q, turned_k = _module(implementation, *tensors.values()).rotary(q, k, cos, sin)
    return turned_q, turned_k


def _check_alike(**tensors: torch.Tensor) -> None:
    """All of one shape, dtype and device, with rows to speak of."""
    first, *others = tensors.values()
    if not first.dim() or not first.shape[-1] or any(x.shape != first.shape for x in others):
        told = ", ".join(f"{name} {tuple(x.shape)}" for name, x in tensors.items())
        raise ValueError(f"{' and '.join(tensors)} must be [..., D], of one shape; got {told}")
    _check_kinds(**tensors)


def _check_vectors(x: torch.Tensor, **vectors: torch.Tensor) -> None:
    """Vectors [D] of the dtype and device of x [..., D]."""
    for name, vector in vectors.items():
        if vector.shape != x.shape[-1:]:
            raise ValueError(
                f"{name} must be [{x.shape[-1]}], as the rows are; got {tuple(vector.shape)}"
            )
    _check_kinds(x=x, **vectors)


def _check_kinds(**tensors: torch.Tensor) -> None:
    """One float dtype, one device, and last dimensions that a kernel can read."""
    first, *others = tensors.values()
    alike = all(x.dtype == first.dtype and x.device == first.device for x in others)
    if not alike or not first.is_floating_point():
        told = ", ".join(f"{name} {x.dtype} on {x.device}" for name, x in tensors.items())
        raise ValueError(f"all must share a float dtype and a device; got {told}")
    for name, x in tensors.items():
        if x.stride(-1) != 1 and x.shape[-1] > 1:
            raise ValueError(f"the last dimension of {name} must be contiguous: call .contiguous()")


def _module(implementation: str | None, *tensors: torch.Tensor) -> ModuleType:
    """The module that runs for `tensors`, of which the first has the rows."""
    first = tensors[0]
    wants_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    reads = first.dtype != torch.float64 and first.shape[-1] <= WIDEST and not wants_gradient
    name = chosen_implementation(first.device, implementation, lambda _: reads)
    if name != "triton":
        # Nothing on the CPU is faster than torch's own operations.
        return reference
    if not reads:
        raise ValueError(
            f"the Triton kernels take fp32, fp16 and bf16 rows of at most {WIDEST}, without "
            f"gradients; got {first.dtype} rows of {first.shape[-1]}"
            f"{', with gradients' if wants_gradient else ''}: 'reference' can take them"
        )
    return import_module(f"{__name__}.triton")
