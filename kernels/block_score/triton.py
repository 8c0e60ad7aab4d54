"""Block scores on NVIDIA GPUs: each key is read once, and only per-block sums are written.

In and out as `kernels.block_score`: `log_sum_exp` and `backward`. A program does one passage for
one key head, against all signal tokens and grouped query heads at once; token scores never leave
its registers. Deterministic: no atomics, every passage has a program of its own.

    log_sum_exp(q, k, layout, (0, 0, 1), scale=0.125, key_mask=None)  # CUDA tensors
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from kernels.block_attention.triton_backward import sum_kernel
from kernels.block_attention.triton_forward import LOG2E, dot
from kernels.block_score.cpu import signals_of
from kernels.dispatch import triton_is_interpreted
from kernels.layout import PassageSpans
from kernels.padding import Tokens
from kernels.quantized import QuantizedTokens
from kernels.triton_quantized import load_tokens

# Rows (signal tokens times grouped query heads) a program takes at most, and keys it reads at once.
_ROWS = 64
_BLOCK_N = 64


class _Table(NamedTuple):
    """`order` int64 [S] sorts the signal tokens by request; a tile is one passage and some of them.

    `tiles` int32 [n,5]: passage start and end, its place in its request, first and end of the
    sorted signal tokens. `merges` int32 [m,4]: those of each group and its run of tiles.
    """

    order: torch.Tensor
    tiles: torch.Tensor
    merges: torch.Tensor


@triton.jit
def _read(
    q, order, table, pid, kv_head, stride_qs, stride_qh,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """start, end, place of the tile's passage; signal, head, real and queries of its rows."""
    row = table + pid * 5
    m = tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    rank = tl.load(row + 3) + m // G
    real = (rank < tl.load(row + 4)) & (m < BLOCK_M // G * G)
    signal = tl.load(order + rank, mask=real, other=0)
    head = kv_head * G + m % G
    read = real[:, None] & (d < D)[None, :]
    at = signal * stride_qs + head * stride_qh
    queries = tl.load(q + at[:, None] + d[None, :], mask=read, other=0.0)
    return tl.load(row), tl.load(row + 1), tl.load(row + 2), signal, head, real, queries


@triton.jit
def _logits(
    queries, k, k_scale, key_mask, key, end, stride_kt, stride_scale, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BITS: tl.constexpr, MASKED: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """Logits [BLOCK_M, BLOCK_N] in base 2, -inf where a key doesn't count, and the keys."""
    seen = key < end
    keys, scales = load_tokens(
        k, k_scale, key, seen, stride_kt, stride_scale, queries.dtype, D, BLOCK_D, BITS
    )
    if MASKED:
        seen = seen & (tl.load(key_mask + key, mask=seen, other=0) != 0)
    logits = dot(queries, tl.trans(keys), UPCAST) * (scales * (scale * LOG2E))[None, :]
    return tl.where(seen[None, :], logits, float("-inf")), keys


@triton.jit
def _score_kernel(
    q, k, k_scale, key_mask, order, table, lse, scale,
    stride_qs, stride_qh, stride_kt, stride_kh, stride_kst, stride_ksh, S, Nmax,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, BITS: tl.constexpr, MASKED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Write lse [Hq,S,Nmax] of one passage and key head."""
    kv_head = tl.program_id(1).to(tl.int64)
    start, end, place, signal, head, real, queries = _read(
        q, order, table, tl.program_id(0), kv_head, stride_qs, stride_qh, G, D, BLOCK_M, BLOCK_D
    )
    k += kv_head * stride_kh
    k_scale += kv_head * stride_ksh
    total = tl.zeros([BLOCK_M], tl.float32)
    largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    for first in range(start, end, BLOCK_N):
        key = first + tl.arange(0, BLOCK_N)
        logits, _ = _logits(
            queries, k, k_scale, key_mask, key, end, stride_kt, stride_kst, scale,
            D, BLOCK_D, BITS, MASKED, UPCAST,
        )  # fmt: skip
        new_largest = tl.maximum(largest, tl.max(logits, 1))
        safe = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        total = total * tl.exp2(largest - safe) + tl.sum(tl.exp2(logits - safe[:, None]), 1)
        largest = new_largest
    row_lse = tl.where(total > 0, (largest + tl.log2(total)) / LOG2E, float("-inf"))
    tl.store(lse + (head * S + signal) * Nmax + place, row_lse, mask=real)


@triton.jit
def _backward_kernel(
    q, k, key_mask, order, table, lse, weight, part_q, grad_k, scale,
    stride_qs, stride_qh, stride_kt, stride_kh, S, Nmax, Hkv, ADD: tl.constexpr,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, BITS: tl.constexpr, MASKED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One passage and key head: add to grad_k of its keys, write its slot of part_q."""
    pid = tl.program_id(0)
    kv_head = tl.program_id(1).to(tl.int64)
    start, end, place, signal, head, real, queries = _read(
        q, order, table, pid, kv_head, stride_qs, stride_qh, G, D, BLOCK_M, BLOCK_D
    )
    d = tl.arange(0, BLOCK_D)
    at = (head * S + signal) * Nmax + place
    row_lse = tl.load(lse + at, mask=real, other=float("inf")) * LOG2E
    # No key of a fully masked passage counts; its lse is -inf, and -inf - -inf is no number.
    row_lse = tl.where(row_lse == float("-inf"), float("inf"), row_lse)
    row_weight = tl.load(weight + at, mask=real, other=0.0)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for first in range(start, end, BLOCK_N):
        key = first + tl.arange(0, BLOCK_N)
        logits, keys = _logits(
            queries, k + kv_head * stride_kh, k, key_mask, key, end, stride_kt, 0, scale,
            D, BLOCK_D, BITS, MASKED, UPCAST,
        )  # fmt: skip
        grad = tl.exp2(logits - row_lse[:, None]) * row_weight[:, None]
        acc += dot(grad.to(keys.dtype), keys, UPCAST)
        grad_keys = dot(tl.trans(grad.to(queries.dtype)), queries, UPCAST) * scale
        out = grad_k + (key.to(tl.int64)[:, None] * Hkv + kv_head) * D + d[None, :]
        write = (key < end)[:, None] & (d < D)[None, :]
        if ADD:
            grad_keys += tl.load(out, mask=write, other=0.0)
        tl.store(out, grad_keys, mask=write)
    row = (pid.to(tl.int64) * Hkv + kv_head) * BLOCK_M + tl.arange(0, BLOCK_M)
    tl.store(part_q + row[:, None] * BLOCK_D + d[None, :], acc * scale)


def log_sum_exp(
    q: torch.Tensor,
    k: Tokens,
    layout: PassageSpans,
    signal_request: tuple[int, ...],
    scale: float,
    key_mask: torch.Tensor | None,
) -> torch.Tensor:
    """fp32 [Hq,S,Nmax]: log-sum-exp of each signal token's logits over each passage's keys."""
    keys = QuantizedTokens(k) if isinstance(k, torch.Tensor) else k
    check_keys(q, keys, layout)
    # Without scales any tensor will do in their place: none is read.
    k_scale = keys.values if keys.scale is None else keys.scale
    S, Hq, _ = q.shape
    longest = max((len(spans.passages) for spans in layout.spans), default=0)
    lse = torch.full((Hq, S, longest), -torch.inf, dtype=torch.float32, device=q.device)
    for tables in _tables(layout, signal_request, _signals_per_tile(q, k)):
        if len(tables.tiles):
            _score_kernel[(len(tables.tiles), k.shape[1])](
                q, keys.values, k_scale, _bytes(key_mask, lse), tables.order, tables.tiles, lse,
                scale, *q.stride()[:2], *keys.values.stride()[:2], *k_scale.stride()[:2],
                S, longest, **_options(q, k, key_mask), BITS=keys.bits,
            )  # fmt: skip
    return lse


def backward(
    weight: torch.Tensor,
    lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    layout: PassageSpans,
    signal_request: tuple[int, ...],
    scale: float,
    key_mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of q and k for a gradient `weight` [Hq,S,Nmax] of the log-sum-exps `lse`."""
    S, Hkv = q.shape[0], k.shape[1]
    options = _options(q, k, key_mask)
    new: dict[str, Any] = {"dtype": torch.float32, "device": q.device}
    grad_k = torch.zeros(k.shape, **new)
    grad_q = torch.zeros(q.shape, **new)
    weight = weight.contiguous()
    for turn, tables in enumerate(_tables(layout, signal_request, _signals_per_tile(q, k))):
        if not len(tables.tiles):
            continue
        part_q = torch.empty(
            (len(tables.tiles), Hkv, options["BLOCK_M"], options["BLOCK_D"]), **new
        )
        _backward_kernel[(len(tables.tiles), Hkv)](
            q, k, _bytes(key_mask, lse), tables.order, tables.tiles, lse, weight, part_q, grad_k,
            scale, *q.stride()[:2], *k.stride()[:2], S, lse.shape[2], Hkv, ADD=turn > 0,
            **options, BITS=16,
        )  # fmt: skip
        ranked = torch.zeros_like(grad_q)
        shape = {name: options[name] for name in ("G", "D", "BLOCK_M", "BLOCK_D")}
        sum_kernel[(len(tables.merges), Hkv)](part_q, ranked, tables.merges, Hkv, **shape)
        grad_q[tables.order] += ranked
    return grad_q.to(q.dtype), grad_k.to(k.dtype)


def _tables(layout: PassageSpans, signal_request: tuple[int, ...], size: int) -> list[_Table]:
    """One table a turn: in each turn a passage meets at most `size` of its signal tokens."""
    key = ("score tables", signal_request, size)
    return layout.memo(key, lambda: _build(layout, signal_request, size))


def _build(layout: PassageSpans, signal_request: tuple[int, ...], size: int) -> list[_Table]:
    signals = signals_of(signal_request, len(layout.spans))
    order = torch.tensor([s for group in signals for s in group], dtype=torch.int64)
    turns: list[tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = []
    rank = 0
    for spans, group in zip(layout.spans, signals, strict=True):
        passages = [(place, span) for place, span in enumerate(spans.passages) if span.length]
        for turn, first in enumerate(range(0, len(group) if passages else 0, size)):
            if turn == len(turns):
                turns.append(([], []))
            tiles, merges = turns[turn]
            rows = (rank + first, rank + min(first + size, len(group)))
            merges.append((*rows, len(tiles), len(tiles) + len(passages)))
            tiles += [(*span, place, *rows) for place, span in passages]
        rank += len(group)
    device = layout.device
    return [
        _Table(
            order.to(device),
            torch.tensor(tiles, dtype=torch.int32, device=device).view(-1, 5),
            torch.tensor(merges, dtype=torch.int32, device=device).view(-1, 4),
        )
        for tiles, merges in turns
    ]


def _signals_per_tile(q: torch.Tensor, k: Tokens) -> int:
    return max(1, _ROWS // (q.shape[1] // k.shape[1]))


def _options(q: torch.Tensor, k: Tokens, key_mask: torch.Tensor | None) -> dict[str, Any]:
    group = q.shape[1] // k.shape[1]
    rows = group * min(q.shape[0], _signals_per_tile(q, k))
    return {
        "G": group,
        "D": q.shape[2],
        "BLOCK_M": max(16, triton.next_power_of_2(rows)),
        "BLOCK_N": _BLOCK_N,
        "BLOCK_D": max(16, triton.next_power_of_2(q.shape[2])),
        "MASKED": key_mask is not None,
        "UPCAST": triton_is_interpreted(),
    }


def _bytes(key_mask: torch.Tensor | None, any_tensor: torch.Tensor) -> torch.Tensor:
    """The mask as bytes; any tensor will do where no mask is read."""
    return any_tensor if key_mask is None else key_mask.view(torch.uint8)


def check_keys(q: torch.Tensor, keys: QuantizedTokens, layout: PassageSpans) -> None:
    """Raise ValueError for what the Triton kernels cannot read."""
    if q.dtype == torch.float64:
        raise ValueError("the Triton kernels take fp32, fp16 and bf16: float64 needs 'reference'")
    if keys.scale is None and keys.values.dtype != q.dtype:
        raise ValueError(
            f"q is {q.dtype} and the keys {keys.values.dtype}: on a GPU keys stored as floats must "
            "have q's dtype"
        )
    if layout.device != q.device:
        raise ValueError(f"the layout lies on {layout.device} and q on {q.device}: build it there")
    if q.stride(2) != 1 or keys.values.stride(2) != 1:
        raise ValueError("the last dimension of q and of the keys must be contiguous")
