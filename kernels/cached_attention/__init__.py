"""Attention and block scores of query blocks over cached passages: nothing but the query is new.

In: q [Tq,Hq,D] of the query blocks, their own k and v, keys and values of cached tokens in 16, 8 or
4 bits (`kernels.quantized`), and a `CachedLayout` that says where each request's blocks lie in the
cache. Out: as `block_attention` and `block_score`, for the query blocks alone. No gradients.

    cached_attention(q, k, v, QuantizedTokens(cached_k), QuantizedTokens(cached_v), layout,
                     causal=True)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kernels.block_attention import check_inputs
from kernels.block_score import BlockScores, mass, requests_of
from kernels.block_score import reference as score_reference
from kernels.cached_attention.layout import CachedLayout
from kernels.dispatch import chosen_module
from kernels.quantized import QuantizedTokens
from kernels.tile_sizes import cached_fits, score_fits


@torch.no_grad()
def cached_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cached_k: QuantizedTokens,
    cached_v: QuantizedTokens,
    layout: CachedLayout,
    *,
    causal: bool,
    scale: float | None = None,
    implementation: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """o [Tq,Hq,D] in q's dtype and its log-sum-exps [Hq,Tq] in fp32, natural logarithm.

    A query token attends to its request's cached instruction and passages and to its own query
    block, k and v [Tq,Hkv,D] (with `causal` up to itself). The cache is [Tc,Hkv,D]. On the CPU the
    bits are the same for any order and place of the passages, and any company.

    Raises ValueError for shapes, dtypes, devices or spans that do not fit together.
    """
    check_inputs(q, k, v, layout.num_queries)
    for cached in (cached_k, cached_v):
        _check_pool(q, cached, layout)
        if cached.shape[1:] != k.shape[1:] or cached.bits != cached_k.bits:
            raise ValueError(
                f"the cache must be [Tc,{k.shape[1]},{k.shape[2]}], keys and values in the same "
                f"bits; got {tuple(cached.shape)} in {cached.bits} and {cached_k.bits} bits"
            )
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    module = chosen_module(__name__, q, k.shape[1], cached_fits, implementation)
    result: tuple[torch.Tensor, torch.Tensor] = module.forward(
        q, k, v, cached_k, cached_v, layout, scale, causal
    )
    return result


@torch.no_grad()
def cached_block_score(
    q: torch.Tensor,
    cached_k: QuantizedTokens,
    layout: CachedLayout,
    *,
    signal_request: Sequence[int] | torch.Tensor,
    scale: float | None = None,
    key_mask: torch.Tensor | None = None,
    implementation: str | None = None,
) -> BlockScores:
    """`block_score` with the keys of cached passages; q is [S,Hq,D], key_mask bool [Tc]."""
    _check_pool(q, cached_k, layout)
    requests = requests_of(signal_request, q.shape[0], len(layout.spans))
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    module = chosen_module("kernels.block_score", q, cached_k.shape[1], score_fits, implementation)
    if module is score_reference:
        keys = cached_k.tokens(slice(None)).to(q.dtype)
        return BlockScores(*score_reference.forward(q, keys, layout, requests, scale, key_mask))
    lse = module.log_sum_exp(q, cached_k, layout, requests, scale, key_mask)
    return BlockScores(lse, mass(lse))


def _check_pool(q: torch.Tensor, cached: QuantizedTokens, layout: CachedLayout) -> None:
    if layout.pool_end > cached.shape[0]:
        raise ValueError(
            f"the layout reads tokens up to {layout.pool_end}; the cache has {cached.shape[0]}"
        )
    if q.shape[1] % cached.shape[1] or q.shape[2] != cached.shape[2]:
        raise ValueError(
            "cached heads must divide q's and head sizes agree; "
            f"got q {tuple(q.shape)} and a cache of {tuple(cached.shape)}"
        )
    if cached.device != q.device:
        raise ValueError(f"q lies on {q.device} and the cache on {cached.device}")
