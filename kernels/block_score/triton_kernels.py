"""The Triton kernels of block scores; `triton` launches them.

A program does one passage for one key head, against all rows of its tile: signal tokens times
grouped query heads. A head wider than BLOCK_D is walked through in pieces that add up to the
logits, so neither shared memory nor registers grow with it; the backward kernel has a program a
piece, each of which makes the logits anew.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from kernels.block_attention.triton_forward import LOG2E, dot, grouped_rows, slot_rows
from kernels.triton_quantized import load_scales, load_tokens


@triton.jit
def _read(order, table, pid, kv_head, stride_qs, stride_qh, G: tl.constexpr, BLOCK_M: tl.constexpr):
    """start, end, place of the tile's passage; signal, head, real of its rows, and their queries'
    addresses.
    """
    row = table + pid * 5
    rank, head, real = grouped_rows(tl.load(row + 3), tl.load(row + 4), kv_head, G, BLOCK_M)
    signal = tl.load(order + rank, mask=real, other=0)
    at = signal * stride_qs + head * stride_qh
    return tl.load(row), tl.load(row + 1), tl.load(row + 2), signal, head, real, at


@triton.jit
def _queries(q, at, real, first, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """[BLOCK_M, BLOCK_D] of the rows' queries, from dimension `first` on."""
    d = first + tl.arange(0, BLOCK_D)
    return tl.load(q + at[:, None] + d[None, :], mask=real[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def _logits(
    queries, first_d, q, q_at, real, k, k_scale, key_mask, key, end, stride_kt, stride_scale, scale,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    BITS: tl.constexpr, MASKED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Logits [BLOCK_M, BLOCK_N] in base 2, -inf where a key doesn't count, and the keys.

    Both `queries` and the keys that are returned are the piece from dimension `first_d` on.
    """
    seen = key < end
    dtype: tl.constexpr = q.dtype.element_ty
    if BLOCK_D < D:
        logits = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for first in range(0, D, BLOCK_D):
            rows = _queries(q, q_at, real, first, D, BLOCK_D)
            piece = load_tokens(k, key, seen, stride_kt, first, dtype, D, BLOCK_D, BITS)
            logits += dot(rows, tl.trans(piece), UPCAST)
        keys = load_tokens(k, key, seen, stride_kt, first_d, dtype, D, BLOCK_D, BITS)
    else:
        keys = load_tokens(k, key, seen, stride_kt, 0, dtype, D, BLOCK_D, BITS)
        logits = dot(queries, tl.trans(keys), UPCAST)
    scales = load_scales(k_scale, key, seen, stride_scale, BITS)
    logits *= (scales * (scale * LOG2E))[None, :]
    if MASKED:
        seen = seen & (tl.load(key_mask + key, mask=seen, other=0) != 0)
    return tl.where(seen[None, :], logits, float("-inf")), keys


@triton.jit
def score_kernel(
    q, k, k_scale, key_mask, order, table, lse, scale,
    stride_qs, stride_qh, stride_kt, stride_kh, stride_kst, stride_ksh, S, Nmax,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, BITS: tl.constexpr, MASKED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Write lse [Hq,S,Nmax] of one passage and key head."""
    kv_head = tl.program_id(1).to(tl.int64)
    start, end, place, signal, head, real, q_at = _read(
        order, table, tl.program_id(0), kv_head, stride_qs, stride_qh, G, BLOCK_M
    )
    queries = _queries(q, q_at, real, 0, D, BLOCK_D)
    k += kv_head * stride_kh
    k_scale += kv_head * stride_ksh
    total = tl.zeros([BLOCK_M], tl.float32)
    largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    for first in range(start, end, BLOCK_N):
        key = first + tl.arange(0, BLOCK_N)
        logits, _ = _logits(
            queries, 0, q, q_at, real, k, k_scale, key_mask, key, end, stride_kt, stride_kst, scale,
            D, BLOCK_M, BLOCK_N, BLOCK_D, BITS, MASKED, UPCAST,
        )  # fmt: skip
        new_largest = tl.maximum(largest, tl.max(logits, 1))
        safe = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        total = total * tl.exp2(largest - safe) + tl.sum(tl.exp2(logits - safe[:, None]), 1)
        largest = new_largest
    row_lse = tl.where(total > 0, (largest + tl.log2(total)) / LOG2E, float("-inf"))
    tl.store(lse + (head * S + signal) * Nmax + place, row_lse, mask=real)


@triton.jit
def score_backward_kernel(
    q, k, key_mask, order, table, lse, weight, part_q, grad_k, scale,
    stride_qs, stride_qh, stride_kt, stride_kh, S, Nmax, Hkv, ADD: tl.constexpr,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, MASKED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One passage, key head and piece of the head: add to grad_k, write a slot of part_q."""
    pid = tl.program_id(0)
    kv_head = tl.program_id(1).to(tl.int64)
    first_d = tl.program_id(2) * BLOCK_D
    start, end, place, signal, head, real, q_at = _read(
        order, table, pid, kv_head, stride_qs, stride_qh, G, BLOCK_M
    )
    queries = _queries(q, q_at, real, first_d, D, BLOCK_D)
    k += kv_head * stride_kh
    d = first_d + tl.arange(0, BLOCK_D)
    at = (head * S + signal) * Nmax + place
    row_lse = tl.load(lse + at, mask=real, other=float("inf")) * LOG2E
    # No key of a fully masked passage counts; its lse is -inf, and -inf - -inf is no number.
    row_lse = tl.where(row_lse == float("-inf"), float("inf"), row_lse)
    row_weight = tl.load(weight + at, mask=real, other=0.0)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for first in range(start, end, BLOCK_N):
        key = first + tl.arange(0, BLOCK_N)
        logits, keys = _logits(
            queries, first_d, q, q_at, real, k, k, key_mask, key, end, stride_kt, 0, scale,
            D, BLOCK_M, BLOCK_N, BLOCK_D, 16, MASKED, UPCAST,
        )  # fmt: skip
        grad = (tl.exp2(logits - row_lse[:, None]) * row_weight[:, None]).to(keys.dtype)
        acc += dot(grad, keys, UPCAST)
        grad_keys = dot(tl.trans(grad), queries, UPCAST) * scale
        out = grad_k + (key.to(tl.int64)[:, None] * Hkv + kv_head) * D + d[None, :]
        write = (key < end)[:, None] & (d < D)[None, :]
        if ADD:
            grad_keys += tl.load(out, mask=write, other=0.0)
        tl.store(out, grad_keys, mask=write)
    row = slot_rows(pid, kv_head, Hkv, BLOCK_M)
    width: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D * BLOCK_D
    tl.store(part_q + row[:, None] * width + d[None, :], acc * scale)
