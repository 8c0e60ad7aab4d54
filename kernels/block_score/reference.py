"""Block scores from their definition in plain torch: the slow twin that the others are held to.

In and out as `kernels.block_score`. It writes down every token's logit and is differentiated by
autograd.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kernels.layout import PassageSpans
from kernels.padding import wide_dtype


def token_logits(
    q: torch.Tensor, k: torch.Tensor, signal: int, tokens: slice, scale: float
) -> torch.Tensor:
    """[Hq, tokens]: the scaled logits of one signal token against a span of keys."""
    dtype = wide_dtype(q.dtype)
    keys = k[tokens].to(dtype).repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return torch.einsum("hd,thd->ht", q[signal].to(dtype), keys) * scale


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    layout: PassageSpans,
    signal_request: Sequence[int],
    scale: float,
    key_mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """log_sum_exp and mass, both [Hq,S,Nmax]."""
    longest = max((len(spans.passages) for spans in layout.spans), default=0)
    shape = (q.shape[1], longest)
    lse_rows, mass_rows = [], []
    for signal, request in enumerate(signal_request):
        sums = [q.new_full((q.shape[1],), -torch.inf, dtype=wide_dtype(q.dtype))] * longest
        masses = [torch.zeros_like(x) for x in sums]
        blocks = []
        for start, end in layout.spans[request].passages:
            logits = token_logits(q, k, signal, slice(start, end), scale)
            if key_mask is not None:
                logits = logits[:, key_mask[start:end]]
            blocks.append(logits)
        if sum(block.shape[1] for block in blocks):
            probabilities = torch.cat(blocks, dim=1).softmax(-1)
            parts = probabilities.split([block.shape[1] for block in blocks], dim=1)
            for index, (block, part) in enumerate(zip(blocks, parts, strict=True)):
                if block.shape[1]:
                    sums[index], masses[index] = block.logsumexp(-1), part.sum(-1)
        lse_rows.append(torch.stack(sums, dim=1) if sums else q.new_empty(shape))
        mass_rows.append(torch.stack(masses, dim=1) if masses else q.new_empty(shape))
    if not lse_rows:
        empty = q.new_empty((q.shape[1], 0, longest), dtype=wide_dtype(q.dtype))
        return empty, empty.clone()
    return torch.stack(lse_rows, dim=1), torch.stack(mass_rows, dim=1)
