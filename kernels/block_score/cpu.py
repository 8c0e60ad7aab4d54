"""Block scores on the CPU: a run of passages is one matrix product, bits that stay put.

In and out as `kernels.block_score`: `log_sum_exp`, `backward` and `token_mass`. Keys are read where
they lie; only logits are copied, into a zero-padded block per passage, and a passage's sum is exact
over its tokens (`exact_logsumexp`): its bits depend neither on its place nor on its neighbours.
Plain torch throughout: the token mass runs on any device.

    log_sum_exp(q, k, layout, (0, 0, 1), scale=0.125, key_mask=None)  # [Hq,S,Nmax]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch

from kernels.exact import exact_logsumexp
from kernels.layout import PassageSpans, Span
from kernels.padding import Tokens, wide_dtype
from kernels.threads import in_threads

# A matrix product with fewer rows or columns takes other code paths, whose last bits differ.
_FEWEST = 16
# Logits that a run of passages may have, for the threads to share and memory to stay bounded.
_RUN_LOGITS = 1 << 19


class _Run(NamedTuple):
    """Some passages of one request: their places, where their tokens lie, their log-sum-exps.

    `tokens` is a slice or int64 [t], `passage` int64 [t] the number of each token's passage within
    the run, and each of `blocks` int64 [pad,n] names tokens of n passages, t where there is none;
    they come in the order of `places`.
    """

    request: int
    places: torch.Tensor
    tokens: slice | torch.Tensor
    passage: torch.Tensor
    blocks: tuple[torch.Tensor, ...]


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
    runs = _runs(layout, signal_request, q.shape[1])

    def run_sums(run: _Run) -> torch.Tensor:
        logits = _logits(q, k, run, signals[run.request], scale, key_mask)
        nowhere = logits.new_full((*logits.shape[:2], 1), -torch.inf)
        # Columns last and tokens first: a sum over tokens then adds whole rows.
        rows = torch.cat((logits, nowhere), dim=2).permute(2, 0, 1).contiguous()
        sums = [exact_logsumexp(rows[block]) for block in run.blocks]
        return torch.cat(sums).permute(1, 2, 0).to(result.dtype)

    for run, sums in zip(runs, in_threads(run_sums, runs), strict=True):
        owners = torch.tensor(signals[run.request], device=q.device)
        heads = sums.unflatten(1, (-1, len(owners))).flatten(0, 1)
        result[:, owners[:, None], run.places] = heads
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
    for run in _runs(layout, signal_request, q.shape[1]):
        owners = signals[run.request]
        logits = _logits(q, k, run, owners, scale, key_mask)
        rows = [_of_tokens(x, run, owners, k.shape[1]) for x in (lse, weight)]
        # A passage without keys has lse -inf, and -inf - -inf is no number.
        share = torch.where(rows[0] == -torch.inf, 0.0, (logits - rows[0]).exp_() * rows[1])
        keys = _keys(k, run, grad_k.dtype)
        columns = _columns(q, owners, k.shape[1]).to(grad_q.dtype)
        grad_k[run.tokens] += ((columns @ share).transpose(1, 2) * scale).transpose(0, 1)
        part = (share @ keys * scale).unflatten(1, (-1, len(owners)))
        grad_q[owners] += part.flatten(0, 1).transpose(0, 1)
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
    for run in _runs(layout, signal_request, q.shape[1]):
        owners = signals[run.request]
        logits = _logits(q, k, run, owners, scale, key_mask)
        heads = logits.unflatten(1, (-1, len(owners))).flatten(0, 1)
        total = lse[:, owners, None]
        share = torch.where(total > -torch.inf, (heads - total).exp(), 0.0)
        mass[:, run.tokens] = share.mean(1)
    return mass


def signals_of(signal_request: Sequence[int], num_requests: int) -> list[list[int]]:
    """The signal tokens of each request."""
    signals: list[list[int]] = [[] for _ in range(num_requests)]
    for signal, request in enumerate(signal_request):
        signals[request].append(signal)
    return signals


def _runs(layout: PassageSpans, signal_request: tuple[int, ...], heads: int) -> tuple[_Run, ...]:
    key = ("cpu score runs", signal_request, heads)
    return layout.memo(key, lambda: tuple(_build(layout, signal_request, heads)))


def _build(layout: PassageSpans, signal_request: tuple[int, ...], heads: int) -> Iterator[_Run]:
    signals = signals_of(signal_request, len(layout.spans))
    for request, spans in enumerate(layout.spans):
        real = [(place, span) for place, span in enumerate(spans.passages) if span.length]
        if not signals[request]:
            continue
        half = -(-sum(span.length for _, span in real) // 2)
        limit = max(1, min(half, _RUN_LOGITS // (heads * len(signals[request]))))
        first, tokens = 0, 0
        for number, (_, span) in enumerate(real):
            if tokens and tokens + span.length > limit:
                yield _run(request, real[first:number], layout.device)
                first, tokens = number, 0
            tokens += span.length
        if tokens:
            yield _run(request, real[first:], layout.device)


def _run(request: int, passages: Sequence[tuple[int, Span]], device: torch.device) -> _Run:
    starts = torch.tensor([span.start for _, span in passages])
    lengths = torch.tensor([span.length for _, span in passages])
    ends = lengths.cumsum(0)
    passage = torch.arange(len(passages)).repeat_interleave(lengths)
    tokens: slice | torch.Tensor
    if all(a.end == b.start for (_, a), (_, b) in pairwise(passages)):
        tokens = slice(passages[0][1].start, passages[-1][1].end)
    else:
        tokens = (torch.arange(len(passage)) + (starts - ends + lengths)[passage]).to(device)
    # A passage's padded size follows from its own length alone, and so do the bits of its sum.
    pads = [max(_FEWEST, 1 << (span.length - 1).bit_length()) for _, span in passages]
    order, blocks = [], []
    for pad in sorted(set(pads)):
        alike = torch.tensor([row for row, other in enumerate(pads) if other == pad])
        offsets = torch.arange(pad)[:, None]
        inside = offsets < lengths[alike]
        at = offsets + (ends - lengths)[alike]
        blocks.append(torch.where(inside, at, len(passage)).to(device))
        order.append(alike)
    places = torch.tensor([place for place, _ in passages])[torch.cat(order)]
    return _Run(request, places.to(device), tokens, passage.to(device), tuple(blocks))


def _of_tokens(values: torch.Tensor, run: _Run, owners: list[int], kv_heads: int) -> torch.Tensor:
    """[Hkv,G*S,t]: of values [Hq,S,Nmax], each token's own passage's."""
    in_order = run.places.sort().values
    rows = values[:, owners][..., in_order][..., run.passage]
    return rows.unflatten(0, (kv_heads, -1)).flatten(1, 2)


def _keys(k: Tokens, run: _Run, dtype: torch.dtype) -> torch.Tensor:
    """[Hkv,t,D]: the keys of a run's tokens."""
    tokens = k[run.tokens] if isinstance(k, torch.Tensor) else k.tokens(run.tokens)
    return tokens.to(dtype).transpose(0, 1)


def _columns(q: torch.Tensor, owners: list[int], kv_heads: int) -> torch.Tensor:
    """[Hkv,D,G*S]: the queries of one request's signal tokens."""
    heads = q[owners].unflatten(1, (kv_heads, -1)).permute(1, 3, 2, 0)
    return heads.flatten(2, 3)


def _logits(
    q: torch.Tensor,
    k: Tokens,
    run: _Run,
    owners: list[int],
    scale: float,
    key_mask: torch.Tensor | None,
) -> torch.Tensor:
    """Logits [Hkv,G*S,t] of a run's tokens, -inf at masked keys."""
    dtype = wide_dtype(q.dtype)
    keys = _keys(k, run, dtype)
    columns = _columns(q, owners, k.shape[1]).to(dtype)
    count, width = keys.shape[1], columns.shape[2]
    if count < _FEWEST:
        keys = torch.nn.functional.pad(keys, (0, 0, 0, _FEWEST - count))
    if width < _FEWEST:
        columns = torch.nn.functional.pad(columns, (0, _FEWEST - width))
    logits = (keys @ columns)[:, :count, :width].transpose(1, 2) * scale
    if key_mask is not None:
        logits = logits.masked_fill_(~key_mask[run.tokens], -torch.inf)
    return logits
