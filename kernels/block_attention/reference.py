"""Block attention from its definition in plain torch: the slow twin that the others are held to.

In and out as `kernels.block_attention`. It writes down the whole T_r x T_r mask of each request,
so its memory is quadratic; nothing here is fast, and everything is differentiated by autograd.
"""

from __future__ import annotations

import torch

from kernels.layout import BlockLayout


def visible_keys(layout: BlockLayout, request: int, causal: bool) -> torch.Tensor:
    """bool [T_r, T_r]: which keys (columns) each token (row) of one request attends to."""
    first, end = layout.request_bounds[request], layout.request_bounds[request + 1]
    lengths = torch.tensor(layout.block_lengths[first:end])
    block = torch.arange(end - first).repeat_interleave(lengths)
    row, key = block[:, None], block[None, :]
    visible = (key == row) | (key == 0) | (row == end - first - 1)
    if causal:
        token = torch.arange(len(block))
        visible &= (key != row) | (token[None, :] <= token[:, None])
    return visible.to(layout.device)


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: BlockLayout,
    scale: float,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """o [T,Hq,D] in q's dtype and lse [Hq,T] in fp32 (float64 for float64 inputs)."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    group = q.shape[1] // k.shape[1]
    q_wide = q.to(dtype)
    k_wide, v_wide = (x.to(dtype).repeat_interleave(group, dim=1) for x in (k, v))
    outputs, sums = [], []
    for request in range(layout.num_requests):
        first, end = layout.request_bounds[request], layout.request_bounds[request + 1]
        tokens = slice(layout.block_bounds[first], layout.block_bounds[end])
        logits = torch.einsum("ihd,jhd->hij", q_wide[tokens], k_wide[tokens]) * scale
        logits = logits.masked_fill(~visible_keys(layout, request, causal), -torch.inf)
        outputs.append(torch.einsum("hij,jhd->ihd", logits.softmax(-1), v_wide[tokens]))
        sums.append(logits.logsumexp(-1))
    if not outputs:
        return torch.empty_like(q), q.new_empty((q.shape[1], 0), dtype=dtype)
    return torch.cat(outputs).to(q.dtype), torch.cat(sums, dim=1)
