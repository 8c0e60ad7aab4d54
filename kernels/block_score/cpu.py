"""Block scores on the CPU: equal shapes through matrix products, bits that stay put.

In and out as `kernels.block_score`: `log_sum_exp`, `backward` and `token_mass`. Passages are copied
into zero-padded chunks of one shape; a passage's sum is exact over its tokens (`exact_logsumexp`),
so its bits do not depend on its place or on its neighbours. Plain torch throughout: the token mass
runs on any device.

    log_sum_exp(q, k, layout, (0, 0, 1), scale=0.125, key_mask=None)  # [Hq,S,Nmax]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from kernels.block_attention.cpu_plan import items_per_chunk, round_up
from kernels.exact import exact_logsumexp
from kernels.layout import PassageSpans, Span
from kernels.padding import Tokens, gather, scatter_add, wide_dtype
from kernels.threads import in_threads


class _Passage(NamedTuple):
    request: int
    place: int
    span: Span


class _Chunk(NamedTuple):
    """Passages of one rounded length, of requests with the same number of signal tokens."""

    passages: tuple[_Passage, ...]
    pad: int


def log_sum_exp(
    q: torch.Tensor,
    k: Tokens,
    layout: PassageSpans,
    signal_request: tuple[int, ...],
    scale: float,
    key_mask: torch.Tensor | None,
) -> torch.Tensor:
    """[Hq,S,Nmax]: log-sum-exp of each signal token's logits over each passage's keys."""
    longest = max((len(spans.passages) for spans in layout.spans), default=0)
    shape = (q.shape[1], q.shape[0], longest)
    result = q.new_full(shape, -torch.inf, dtype=wide_dtype(q.dtype))
    signals = signals_of(signal_request, len(layout.spans))
    chunks = _chunks(layout, signal_request)

    def chunk_sums(chunk: _Chunk) -> torch.Tensor:
        logits, _, _ = _logits(q, k, chunk, signals, scale, key_mask)
        return exact_logsumexp(logits.movedim(3, 0)).to(result.dtype)

    for chunk, sums in zip(chunks, in_threads(chunk_sums, chunks), strict=True):
        for (request, place, _), sums_of in zip(chunk.passages, sums, strict=True):
            result[:, signals[request], place] = sums_of.flatten(0, 1)
    return result


def backward(
    weight: torch.Tensor,
    lse: torch.Tensor,
    q: torch.Tensor,
    k: Tokens,
    layout: PassageSpans,
    signal_request: tuple[int, ...],
    scale: float,
    key_mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of q and k for a gradient `weight` [Hq,S,Nmax] of the log-sum-exps `lse`.

    The logit of token t in block b receives weight_b * exp(logit_t - lse_b).
    """
    grad_q, grad_k = (torch.zeros(x.shape, dtype=wide_dtype(x.dtype)) for x in (q, k))
    signals = signals_of(signal_request, len(layout.spans))
    for chunk in _chunks(layout, signal_request):
        logits, query, keys = _logits(q, k, chunk, signals, scale, key_mask)
        for row, (request, place, _) in enumerate(chunk.passages):
            shape = (*logits.shape[1:3], 1, logits.shape[4])
            rows = [x[:, signals[request], place].unflatten(0, shape[:2]) for x in (lse, weight)]
            block = (logits[row] - rows[0][:, :, None]).exp_() * rows[1][:, :, None]
            # A block without keys has lse -inf, and -inf - -inf is no number.
            logits[row] = torch.where(rows[0][:, :, None] == -torch.inf, 0.0, block)
        parts = torch.einsum("nhgts,nhtd->nshgd", logits, keys) * scale
        for (request, _, _), part in zip(chunk.passages, parts, strict=True):
            grad_q[signals[request]] += part.flatten(1, 2)
        grad_keys = torch.einsum("nhgts,nhgsd->nhtd", logits, query) * scale
        scatter_add(grad_k, grad_keys, [(passage.span,) for passage in chunk.passages])
    return grad_q.to(q.dtype), grad_k.to(k.dtype)


def token_mass(
    q: torch.Tensor,
    k: Tokens,
    layout: PassageSpans,
    signal_request: tuple[int, ...],
    lse: torch.Tensor,
    scale: float,
    key_mask: torch.Tensor | None,
) -> torch.Tensor:
    """[Hq,T]: each token's probability, averaged over the signal tokens; lse is [Hq,S] over all."""
    mass = torch.zeros((q.shape[1], k.shape[0]), dtype=wide_dtype(q.dtype), device=q.device)
    signals = signals_of(signal_request, len(layout.spans))
    for chunk in _chunks(layout, signal_request):
        logits, _, _ = _logits(q, k, chunk, signals, scale, key_mask)
        for block, (request, _, (start, end)) in zip(logits, chunk.passages, strict=True):
            rows = block.flatten(0, 1)[:, : end - start] - lse[:, None, signals[request]]
            seen = lse[:, None, signals[request]] > -torch.inf
            mass[:, start:end] = torch.where(seen, rows.exp(), 0.0).mean(-1)
    return mass


def signals_of(signal_request: Sequence[int], num_requests: int) -> list[list[int]]:
    """The signal tokens of each request."""
    signals: list[list[int]] = [[] for _ in range(num_requests)]
    for signal, request in enumerate(signal_request):
        signals[request].append(signal)
    return signals


def _chunks(layout: PassageSpans, signal_request: tuple[int, ...]) -> tuple[_Chunk, ...]:
    key = ("cpu score plan", signal_request)
    return layout.memo(key, lambda: tuple(_build(layout, signal_request)))


def _build(layout: PassageSpans, signal_request: tuple[int, ...]) -> Iterator[_Chunk]:
    signals = signals_of(signal_request, len(layout.spans))
    alike: dict[tuple[int, int], list[_Passage]] = {}
    for request, spans in enumerate(layout.spans):
        for index, span in enumerate(spans.passages):
            if span.length and signals[request]:
                shape = (round_up(span.length), len(signals[request]))
                alike.setdefault(shape, []).append(_Passage(request, index, span))
    for (pad, _), group in sorted(alike.items()):
        size = items_per_chunk(pad)
        for first in range(0, len(group), size):
            yield _Chunk(tuple(group[first : first + size]), pad)


def _logits(
    q: torch.Tensor,
    k: Tokens,
    chunk: _Chunk,
    signals: list[list[int]],
    scale: float,
    key_mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [n,Hkv,G,pad,S], -inf at pads and masked keys; q [n,Hkv,G,S,D]; k [n,Hkv,pad,D]."""
    spans = [passage.span for passage in chunk.passages]
    keys = gather(k, [(span,) for span in spans], chunk.pad, wide_dtype(q.dtype))
    query = {p.request: q[signals[p.request]].to(keys.dtype) for p in chunk.passages}
    rows = torch.stack([query[p.request] for p in chunk.passages])
    heads = rows.unflatten(2, (k.shape[1], -1)).permute(0, 2, 3, 1, 4)
    n, Hkv, G, S, D = heads.shape
    columns = heads.reshape(n, Hkv, G * S, D).transpose(2, 3)
    logits = (keys @ columns * scale).unflatten(3, (G, S)).transpose(2, 3)
    seen = torch.zeros((n, chunk.pad), dtype=torch.bool, device=q.device)
    for row, (start, end) in zip(seen, spans, strict=True):
        row[: end - start] = True if key_mask is None else key_mask[start:end]
    return logits.masked_fill(~seen[:, None, None, :, None], -torch.inf), heads, keys
