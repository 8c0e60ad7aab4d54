"""Attention over cached passages from its definition: the slow twin that the others are held to.

In and out as `kernels.cached_attention`; the cache is turned into floats as a whole.
"""

from __future__ import annotations

import torch

from kernels.cached_attention.layout import CachedLayout
from kernels.padding import wide_dtype
from kernels.quantized import QuantizedTokens


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cached_k: QuantizedTokens,
    cached_v: QuantizedTokens,
    layout: CachedLayout,
    scale: float,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """o [Tq,Hq,D] in q's dtype and lse [Hq,Tq] in fp32 (float64 for float64 queries)."""
    dtype = wide_dtype(q.dtype)
    group = q.shape[1] // k.shape[1]
    pool_k, pool_v = (x.tokens(slice(None)).to(dtype) for x in (cached_k, cached_v))
    o = torch.empty_like(q)
    lse = torch.empty((q.shape[1], q.shape[0]), dtype=dtype, device=q.device)
    for spans in layout.spans:
        rows = slice(*spans.query)
        cached = [slice(*span) for span in (spans.instruction, *spans.passages)]
        keys = torch.cat([*(pool_k[s] for s in cached), k[rows].to(dtype)])
        values = torch.cat([*(pool_v[s] for s in cached), v[rows].to(dtype)])
        keys, values = (x.repeat_interleave(group, dim=1) for x in (keys, values))
        logits = torch.einsum("ihd,jhd->hij", q[rows].to(dtype), keys) * scale
        if causal:
            own = torch.ones((spans.query.length,) * 2, dtype=torch.bool, device=q.device)
            logits[..., len(keys) - spans.query.length :].masked_fill_(own.triu(1), -torch.inf)
        o[rows] = torch.einsum("hij,jhd->ihd", logits.softmax(-1), values).to(q.dtype)
        lse[:, rows] = logits.logsumexp(-1)
    return o, lse
