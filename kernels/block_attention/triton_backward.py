"""The Triton kernels of block attention's backward pass; `triton` launches them.

Probabilities are recomputed from the log-sum-exps. `grad_q_kernel` walks like the forward pass and
leaves delta = sum(grad_o * o) of each row behind; `grad_kv_kernel` takes a tile of keys and walks
through the tokens that see them. Nothing is added atomically: split tiles write slots, and
`sum_kernel` adds them in order.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from kernels.block_attention.triton_forward import LOG2E, dot, grouped_rows, read_tile, slot_rows


@triton.jit
def walk_keys_grad_q(
    acc, q, grad_o, row_lse, delta, token, k, v, stride_kt, stride_vt, start, end, scale,
    D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    CAUSAL: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Add what keys [start, end) contribute to the gradient of the rows' queries, over scale."""
    d = tl.arange(0, BLOCK_D)
    for first in range(start, end, BLOCK_N):
        key = first + tl.arange(0, BLOCK_N)
        seen = key < end
        read = seen[:, None] & (d < D)[None, :]
        at = key.to(tl.int64)[:, None]
        keys = tl.load(k + at * stride_kt + d[None, :], mask=read, other=0.0)
        values = tl.load(v + at * stride_vt + d[None, :], mask=read, other=0.0)
        visible = seen[None, :]
        if CAUSAL:
            visible = visible & (key[None, :] <= token[:, None])
        p = tl.exp2(dot(q, tl.trans(keys), UPCAST) * (scale * LOG2E) - row_lse[:, None])
        p = tl.where(visible, p, 0.0)
        grad = p * (dot(grad_o, tl.trans(values), UPCAST) - delta[:, None])
        acc += dot(grad.to(keys.dtype), keys, UPCAST)
    return acc


@triton.jit
def grad_q_kernel(
    grad_o, q, k, v, o, lse, delta, grad_q, part, table, scale,
    stride_gt, stride_gh, stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, T, Hkv,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, CAUSAL: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One tile of tokens, one key head: write grad_q (or a slot of part) and delta."""
    start, end, own_start, own_end, far_start, far_end, slot = read_tile(table, tl.program_id(0))
    kv_head = tl.program_id(1).to(tl.int64)
    token, head, real = grouped_rows(start, end, kv_head, G, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    write = real[:, None] & (d < D)[None, :]
    at = token.to(tl.int64)
    q_at = at * stride_qt + head * stride_qh
    g_at = at * stride_gt + head * stride_gh
    o_at = (at * Hkv * G + head) * D
    queries = tl.load(q + q_at[:, None] + d[None, :], mask=write, other=0.0)
    upstream = tl.load(grad_o + g_at[:, None] + d[None, :], mask=write, other=0.0)
    output = tl.load(o + o_at[:, None] + d[None, :], mask=write, other=0.0)
    row_delta = tl.sum(upstream.to(tl.float32) * output.to(tl.float32), 1)
    tl.store(delta + head * T + token, row_delta, mask=real)
    row_lse = tl.load(lse + head * T + token, mask=real, other=float("inf")) * LOG2E
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    k += kv_head * stride_kh
    v += kv_head * stride_vh
    acc = walk_keys_grad_q(
        acc, queries, upstream, row_lse, row_delta, token, k, v, stride_kt, stride_vt,
        far_start, far_end, scale, D, BLOCK_N, BLOCK_D, False, UPCAST,
    )  # fmt: skip
    acc = walk_keys_grad_q(
        acc, queries, upstream, row_lse, row_delta, token, k, v, stride_kt, stride_vt,
        own_start, own_end, scale, D, BLOCK_N, BLOCK_D, CAUSAL, UPCAST,
    )  # fmt: skip
    acc *= scale
    if slot < 0:
        tl.store(grad_q + o_at[:, None] + d[None, :], acc.to(grad_q.dtype.element_ty), mask=write)
    else:
        row = slot_rows(slot, kv_head, Hkv, BLOCK_M)
        tl.store(part + row[:, None] * BLOCK_D + d[None, :], acc)


@triton.jit
def walk_rows_grad_kv(
    grad_k, grad_v, keys, values, key, grad_o, q, lse, delta, kv_head,
    stride_gt, stride_gh, stride_qt, stride_qh, T, start, end, scale,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
    CAUSAL: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Add what tokens [start, end) contribute to the gradients of a tile of keys and values."""
    d = tl.arange(0, BLOCK_D)
    for first in range(start, end, BLOCK_M // G):
        token, head, real = grouped_rows(first, end, kv_head, G, BLOCK_M)
        read = real[:, None] & (d < D)[None, :]
        at = token.to(tl.int64)
        q_at = at * stride_qt + head * stride_qh
        g_at = at * stride_gt + head * stride_gh
        queries = tl.load(q + q_at[:, None] + d[None, :], mask=read, other=0.0)
        upstream = tl.load(grad_o + g_at[:, None] + d[None, :], mask=read, other=0.0)
        # +inf makes the probabilities of rows beyond the end 0.
        row_lse = tl.load(lse + head * T + token, mask=real, other=float("inf")) * LOG2E
        row_delta = tl.load(delta + head * T + token, mask=real, other=0.0)
        logits = dot(keys, tl.trans(queries), UPCAST) * (scale * LOG2E)
        p = tl.exp2(logits - row_lse[None, :])
        if CAUSAL:
            p = tl.where(key[:, None] <= token[None, :], p, 0.0)
        grad_v += dot(p.to(upstream.dtype), upstream, UPCAST)
        grad = p * (dot(values, tl.trans(upstream), UPCAST) - row_delta[None, :])
        grad_k += dot(grad.to(queries.dtype), queries, UPCAST)
    return grad_k, grad_v


@triton.jit
def grad_kv_kernel(
    grad_o, q, k, v, lse, delta, grad_k, grad_v, part_k, part_v, table, scale,
    stride_gt, stride_gh, stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, T, Hkv,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, CAUSAL: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One tile of keys, one key head: write grad_k and grad_v, or a slot of part_k and part_v."""
    start, end, own_start, own_end, far_start, far_end, slot = read_tile(table, tl.program_id(0))
    kv_head = tl.program_id(1).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    key = start + tl.arange(0, BLOCK_N)
    write = (key < end)[:, None] & (d < D)[None, :]
    at = key.to(tl.int64)[:, None]
    keys = tl.load(k + at * stride_kt + kv_head * stride_kh + d[None, :], mask=write, other=0.0)
    values = tl.load(v + at * stride_vt + kv_head * stride_vh + d[None, :], mask=write, other=0.0)
    acc_k = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    acc_v = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    acc_k, acc_v = walk_rows_grad_kv(
        acc_k, acc_v, keys, values, key, grad_o, q, lse, delta, kv_head,
        stride_gt, stride_gh, stride_qt, stride_qh, T, far_start, far_end, scale,
        G, D, BLOCK_M, BLOCK_D, False, UPCAST,
    )  # fmt: skip
    acc_k, acc_v = walk_rows_grad_kv(
        acc_k, acc_v, keys, values, key, grad_o, q, lse, delta, kv_head,
        stride_gt, stride_gh, stride_qt, stride_qh, T, own_start, own_end, scale,
        G, D, BLOCK_M, BLOCK_D, CAUSAL, UPCAST,
    )  # fmt: skip
    acc_k *= scale
    if slot < 0:
        kv_at = (at * Hkv + kv_head) * D + d[None, :]
        tl.store(grad_k + kv_at, acc_k.to(grad_k.dtype.element_ty), mask=write)
        tl.store(grad_v + kv_at, acc_v.to(grad_v.dtype.element_ty), mask=write)
    else:
        row = slot_rows(slot, kv_head, Hkv, BLOCK_N)[:, None] * BLOCK_D + d[None, :]
        tl.store(part_k + row, acc_k)
        tl.store(part_v + row, acc_v)


@triton.jit
def sum_kernel(
    part, out, merges, Hkv,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add the slots of one split tile and key head, in their order, into out [T,Hkv*G,D].

    Where a head has several pieces of BLOCK_D, each has a program of its own.
    """
    entry = merges + tl.program_id(0) * 4
    start = tl.load(entry)
    end = tl.load(entry + 1)
    kv_head = tl.program_id(1).to(tl.int64)
    d = tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    width: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D * BLOCK_D
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for slot in range(tl.load(entry + 2), tl.load(entry + 3)):
        row = slot_rows(slot, kv_head, Hkv, BLOCK_M)
        acc += tl.load(part + row[:, None] * width + d[None, :])
    token, head, real = grouped_rows(start, end, kv_head, G, BLOCK_M)
    out_at = (token.to(tl.int64) * Hkv * G + head) * D
    write = real[:, None] & (d < D)[None, :]
    tl.store(out + out_at[:, None] + d[None, :], acc.to(out.dtype.element_ty), mask=write)
