"""Attention over packed, ragged blocks: every token to its instruction and its own block, the
query block to its whole request.

In: q [T,Hq,D], k and v [T,Hkv,D] of a packed batch and its `BlockLayout`. Out: o [T,Hq,D] and,
where asked, the log-sum-exp of each row's logits [Hq,T]. Cost is linear in the number of passages.

    block_attention(q, k, v, layout, causal=False)
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any, Literal, overload

import torch

from kernels.block_attention import reference
from kernels.dispatch import chosen_module, in_autocast_dtype
from kernels.layout import BlockLayout
from kernels.tile_sizes import attention_fits


@overload
def block_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: BlockLayout,
    *,
    causal: bool,
    scale: float | None = None,
    return_lse: Literal[False] = False,
    implementation: str | None = None,
) -> torch.Tensor: ...


@overload
def block_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: BlockLayout,
    *,
    causal: bool,
    scale: float | None = None,
    return_lse: Literal[True],
    implementation: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]: ...


def block_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: BlockLayout,
    *,
    causal: bool,
    scale: float | None = None,
    return_lse: bool = False,
    implementation: str | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention under the block mask of `layout`, each row over the keys it may see.

    q is [T,Hq,D], k and v are [T,Hkv,D] with Hkv dividing Hq (query head h reads key head
    h // (Hq / Hkv)); any strides whose last dimension is contiguous are read in place. `scale`
    multiplies the logits (default D ** -0.5). With `causal` a token sees its own block only up to
    itself, and everything it may see of other blocks.

    Returns o [T,Hq,D] in q's dtype, and with `return_lse` also the natural log-sum-exp of each
    row's scaled logits, fp32 [Hq,T] (float64 for float64 inputs). o is differentiable (the backward
    pass recomputes the probabilities); lse is not.

    On the CPU a passage's rows have the same bits wherever the passage stands, whatever else is in
    the call; the query block's rows have the same bits for any order of the passages.

    Under autocast q, k and v are cast as torch's own attention casts them.

    `implementation` forces `reference`, `cpu` or `triton` (see `kernels.dispatch`). Raises
    ValueError for shapes, dtypes or devices that do not fit together.
    """
    q, k, v = (in_autocast_dtype(tensor) for tensor in (q, k, v))
    check_inputs(q, k, v, layout.num_tokens)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    backward = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    fits = partial(attention_fits, backward=backward)
    module = chosen_module(__name__, q, k.shape[1], fits, implementation)
    if module is reference:
        o, lse = reference.forward(q, k, v, layout, scale, causal)
        lse = lse.detach()
    elif backward:
        o, lse = _BlockAttention.apply(q, k, v, layout, scale, causal, module)
    else:
        o, lse = module.forward(q, k, v, layout, scale, causal)
    return (o, lse) if return_lse else o


def check_inputs(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_tokens: int) -> None:
    """Raise ValueError where q, k, v and the layout's number of tokens do not fit together."""
    if q.dim() != 3 or k.dim() != 3 or k.shape != v.shape:
        raise ValueError(
            "q must be [T,Hq,D], k and v [T,Hkv,D]; "
            f"got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    if q.shape[0] != k.shape[0] or q.shape[2] != k.shape[2] or q.shape[1] % k.shape[1]:
        raise ValueError(
            "q and k must agree in tokens and head size, and the key heads divide the query heads; "
            f"got q {tuple(q.shape)} and k {tuple(k.shape)}"
        )
    if q.shape[0] != num_tokens:
        raise ValueError(f"q has {q.shape[0]} tokens and the layout {num_tokens}")
    if not (q.dtype == k.dtype == v.dtype and q.is_floating_point()):
        raise ValueError(f"q, k, v must share a float dtype; got {q.dtype}, {k.dtype}, {v.dtype}")
    if not (q.device == k.device == v.device):
        raise ValueError(f"q, k, v lie on {q.device}, {k.device}, {v.device}: move them together")


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layout: BlockLayout,
        scale: float,
        causal: bool,
        module: ModuleType,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        o, lse = module.forward(q, k, v, layout, scale, causal)
        ctx.save_for_backward(q, k, v, o, lse)
        ctx.rest = (layout, scale, causal, module)
        ctx.mark_non_differentiable(lse)
        return o, lse

    @staticmethod
    def backward(ctx: Any, grad_o: torch.Tensor, _grad_lse: Any) -> tuple[Any, ...]:
        layout, scale, causal, module = ctx.rest
        grads = module.backward(grad_o, *ctx.saved_tensors, layout, scale, causal)
        return (*grads, None, None, None, None)
