"""How much attention signal tokens pay to each passage, without keeping token-level scores.

In: q [S,Hq,D] of signal tokens, the request each belongs to, k [T,Hkv,D] of a packed batch and its
`BlockLayout`. Out: `BlockScores`, per head, signal token and passage the log-sum-exp of the logits
over the passage's tokens, and the passage's share of a softmax over all passage tokens of its
request: mass_b = exp(lse_b - lse_all) (BlockRank, arXiv 2510.05396, section 4).

    block_score(q, k, layout, signal_request=[0, 0, 1, 1]).mass.mean(0)  # [S,Nmax], mean over heads
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch

from kernels.block_score import cpu, reference
from kernels.dispatch import chosen_module
from kernels.exact import exact_logsumexp
from kernels.layout import BlockLayout
from kernels.tile_sizes import score_fits


class BlockScores(NamedTuple):
    """Scores [Hq,S,Nmax] of the passages of each signal token's request, in packing order.

    Beyond a request's N passages, for an empty passage, and for one whose keys are all masked,
    log_sum_exp is -inf and mass 0. The masses of one head and signal token sum to 1.
    """

    log_sum_exp: torch.Tensor
    mass: torch.Tensor


def block_score(
    q: torch.Tensor,
    k: torch.Tensor,
    layout: BlockLayout,
    *,
    signal_request: Sequence[int] | torch.Tensor,
    scale: float | None = None,
    key_mask: torch.Tensor | None = None,
    implementation: str | None = None,
) -> BlockScores:
    """Log-sum-exp and mass of each passage under each signal token; fp32, natural logarithm.

    q is [S,Hq,D], k [T,Hkv,D] with Hkv dividing Hq; `signal_request[s]` names the request of signal
    token s (a GPU tensor is copied to the host). Instruction and query keys never count, nor do
    those where `key_mask` (bool [T]) is False. `scale` defaults to D ** -0.5. Differentiable in q
    and k; the backward pass recomputes the logits.

    On the CPU a passage's log_sum_exp has the same bits wherever it stands and whatever else is in
    the call, its mass the same bits for any order of its request's passages.

    Raises ValueError for shapes, dtypes, devices or request numbers that do not fit together.
    """
    requests = check_inputs(q, k, layout, signal_request, key_mask)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    module = chosen_module(__name__, q, k.shape[1], score_fits, implementation)
    if module is reference:
        return BlockScores(*reference.forward(q, k, layout, requests, scale, key_mask))
    # The sums are fp32 by contract; autocast would round the matrix products inside them.
    with torch.autocast(q.device.type, enabled=False):
        scores = _BlockScore.apply(q, k, layout, requests, scale, key_mask, module)
    return BlockScores(*scores)


def token_mass(
    q: torch.Tensor,
    k: torch.Tensor,
    layout: BlockLayout,
    *,
    signal_request: Sequence[int] | torch.Tensor,
    scale: float | None = None,
    key_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """[Hq,T]: the share of each passage token, averaged over its request's signal tokens.

    Arguments as `block_score`. A head's values over one request sum to 1; tokens outside passages,
    masked ones and those of requests without a signal token have 0. For highlights: no gradient.
    """
    requests = check_inputs(q, k, layout, signal_request, key_mask)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    q, k = q.detach(), k.detach()
    lse = cpu.log_sum_exp(q, k, layout, requests, scale, key_mask)
    total = exact_logsumexp(lse.movedim(2, 0)).to(lse.dtype)
    return cpu.token_mass(q, k, layout, requests, total, scale, key_mask)


def mass(log_sum_exp: torch.Tensor) -> torch.Tensor:
    """exp(lse_b - lse_all) over the last dimension; 0 where there is nothing to share."""
    total = exact_logsumexp(log_sum_exp.movedim(-1, 0))[..., None]
    share = torch.exp(log_sum_exp.double() - total)
    return torch.where(log_sum_exp == -torch.inf, 0.0, share).to(log_sum_exp.dtype)


def check_inputs(
    q: torch.Tensor,
    k: torch.Tensor,
    layout: BlockLayout,
    signal_request: Sequence[int] | torch.Tensor,
    key_mask: torch.Tensor | None,
) -> tuple[int, ...]:
    """The requests as plain numbers; ValueError where the arguments do not fit together."""
    if q.dim() != 3 or k.dim() != 3 or q.shape[2] != k.shape[2] or q.shape[1] % k.shape[1]:
        raise ValueError(
            "q must be [S,Hq,D] and k [T,Hkv,D] with Hkv dividing Hq; "
            f"got {tuple(q.shape)} and {tuple(k.shape)}"
        )
    if k.shape[0] != layout.num_tokens:
        raise ValueError(f"k has {k.shape[0]} tokens and the layout {layout.num_tokens}")
    if q.dtype != k.dtype or not q.is_floating_point() or q.device != k.device:
        raise ValueError(
            f"q ({q.dtype} on {q.device}) and k ({k.dtype} on {k.device}) must share a float dtype "
            "and a device"
        )
    if key_mask is not None and (
        key_mask.dtype != torch.bool or key_mask.shape != k.shape[:1] or key_mask.device != k.device
    ):
        raise ValueError(
            f"key_mask must be bool [{k.shape[0]}] on {k.device}; "
            f"got {key_mask.dtype} {tuple(key_mask.shape)} on {key_mask.device}"
        )
    return requests_of(signal_request, q.shape[0], layout.num_requests)


def requests_of(
    signal_request: Sequence[int] | torch.Tensor, num_signals: int, num_requests: int
) -> tuple[int, ...]:
    """The request of each signal token as plain numbers; ValueError where there is none."""
    plain = signal_request.tolist() if torch.is_tensor(signal_request) else signal_request
    requests = tuple(int(request) for request in plain)
    if len(requests) != num_signals:
        raise ValueError(
            f"{num_signals} signal tokens and {len(requests)} entries in signal_request"
        )
    if requests and not 0 <= min(requests) <= max(requests) < num_requests:
        raise ValueError(
            f"signal_request names requests {min(requests)} to {max(requests)}; "
            f"the layout has {num_requests}, counted from 0"
        )
    return requests


class _BlockScore(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        layout: BlockLayout,
        requests: tuple[int, ...],
        scale: float,
        key_mask: torch.Tensor | None,
        module: ModuleType,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        lse = module.log_sum_exp(q, k, layout, requests, scale, key_mask)
        share = mass(lse)
        ctx.save_for_backward(q, k, lse, share, key_mask)
        ctx.rest = (layout, requests, scale, module)
        return lse, share

    @staticmethod
    def backward(ctx: Any, grad_lse: torch.Tensor, grad_mass: torch.Tensor) -> tuple[Any, ...]:
        q, k, lse, share, key_mask = ctx.saved_tensors
        layout, requests, scale, module = ctx.rest
        # mass is a softmax over the blocks' log-sum-exps.
        mean = (grad_mass * share).sum(-1, keepdim=True)
        weight = grad_lse + share * (grad_mass - mean)
        weight = torch.where(lse == -torch.inf, 0.0, weight)
        grads = module.backward(weight, lse, q, k, layout, requests, scale, key_mask)
        return (*grads, None, None, None, None, None)
