"""The Triton kernels of block attention's forward pass; `triton` launches them.

A program does one tile of query tokens for one key head, with all G query heads that read it: row m
of its [BLOCK_M, D] queries is token m // G and head m % G, so keys and values are read once for the
whole group. It walks through the tile's two runs of keys (`kernels.tiles`) with the online softmax
(FlashAttention-2, arXiv 2307.08691), in base 2.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def read_tile(table, pid):
    """start, end, own_start, own_end, far_start, far_end, slot."""
    row = table + pid * 7
    return (
        tl.load(row),
        tl.load(row + 1),
        tl.load(row + 2),
        tl.load(row + 3),
        tl.load(row + 4),
        tl.load(row + 5),
        tl.load(row + 6),
    )


@triton.jit
def grouped_rows(start, end, kv_head, G: tl.constexpr, BLOCK_M: tl.constexpr):
    """token, head and whether it is one of [start, end), of each row m of a tile."""
    m = tl.arange(0, BLOCK_M)
    token = start + m // G
    return token, kv_head * G + m % G, (token < end) & (m < BLOCK_M // G * G)


@triton.jit
def slot_rows(slot, kv_head, Hkv, BLOCK_M: tl.constexpr):
    """Where a tile's rows lie among partial results [slots, Hkv, BLOCK_M]."""
    return (tl.cast(slot, tl.int64) * Hkv + kv_head) * BLOCK_M + tl.arange(0, BLOCK_M)


@triton.jit
def dot(a, b, UPCAST: tl.constexpr):
    """a @ b in fp32, exact products for fp32 inputs; UPCAST: the interpreter's bf16 is wrong."""
    if UPCAST:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def walk_keys(
    acc, total, largest, q, token, k, v, stride_kt, stride_vt, start, end, scale,
    D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    CAUSAL: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Take keys [start, end) into the running softmax of the rows."""
    d = tl.arange(0, BLOCK_D)
    for first in range(start, end, BLOCK_N):
        key = first + tl.arange(0, BLOCK_N)
        seen = key < end
        read = seen[:, None] & (d < D)[None, :]
        at = key.to(tl.int64)[:, None]
        keys = tl.load(k + at * stride_kt + d[None, :], mask=read, other=0.0)
        logits = dot(q, tl.trans(keys), UPCAST) * scale
        visible = seen[None, :]
        if CAUSAL:
            visible = visible & (key[None, :] <= token[:, None])
        logits = tl.where(visible, logits, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(logits, 1))
        safe = new_largest
        if CAUSAL:
            # A row before this piece of a split run has seen no key yet: no -inf - -inf.
            safe = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        p = tl.exp2(logits - safe[:, None])
        shrink = tl.exp2(largest - safe)
        total = total * shrink + tl.sum(p, 1)
        values = tl.load(v + at * stride_vt + d[None, :], mask=read, other=0.0)
        acc = acc * shrink[:, None] + dot(p.to(values.dtype), values, UPCAST)
        largest = new_largest
    return acc, total, largest


@triton.jit
def forward_kernel(
    q, k, v, o, lse, part_o, part_lse, table, scale,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, T, Hkv,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, CAUSAL: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One tile of tokens, one key head: write o and lse, or a slot of part_o and part_lse."""
    start, end, own_start, own_end, far_start, far_end, slot = read_tile(table, tl.program_id(0))
    kv_head = tl.program_id(1).to(tl.int64)
    token, head, real = grouped_rows(start, end, kv_head, G, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    write = real[:, None] & (d < D)[None, :]
    q_at = token.to(tl.int64) * stride_qt + head * stride_qh
    queries = tl.load(q + q_at[:, None] + d[None, :], mask=write, other=0.0)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    k += kv_head * stride_kh
    v += kv_head * stride_vh
    acc, total, largest = walk_keys(
        acc, total, largest, queries, token, k, v, stride_kt, stride_vt, far_start, far_end,
        scale * LOG2E, D, BLOCK_N, BLOCK_D, False, UPCAST,
    )  # fmt: skip
    acc, total, largest = walk_keys(
        acc, total, largest, queries, token, k, v, stride_kt, stride_vt, own_start, own_end,
        scale * LOG2E, D, BLOCK_N, BLOCK_D, CAUSAL, UPCAST,
    )  # fmt: skip
    seen_any = total > 0
    acc = acc / tl.where(seen_any, total, 1.0)[:, None]
    row_lse = tl.where(seen_any, (largest + tl.log2(total)) / LOG2E, float("-inf"))
    if slot < 0:
        o_at = (token.to(tl.int64) * Hkv * G + head) * D
        tl.store(o + o_at[:, None] + d[None, :], acc.to(o.dtype.element_ty), mask=write)
        tl.store(lse + head * T + token, row_lse, mask=real)
    else:
        row = slot_rows(slot, kv_head, Hkv, BLOCK_M)
        tl.store(part_o + row[:, None] * BLOCK_D + d[None, :], acc)
        tl.store(part_lse + row, row_lse)


@triton.jit
def merge_kernel(
    part_o, part_lse, o, lse, merges, T, Hkv,
    G: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Merge the slots of one split tile and key head, in their order, into o and lse."""
    entry = merges + tl.program_id(0) * 4
    start = tl.load(entry)
    end = tl.load(entry + 1)
    kv_head = tl.program_id(1).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    for slot in range(tl.load(entry + 2), tl.load(entry + 3)):
        row = slot_rows(slot, kv_head, Hkv, BLOCK_M)
        row_lse = tl.load(part_lse + row)
        new_largest = tl.maximum(largest, row_lse)
        # A piece of which a row saw nothing has lse -inf and weighs nothing.
        safe = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        weight = tl.exp2((row_lse - safe) * LOG2E)
        shrink = tl.exp2((largest - safe) * LOG2E)
        acc = acc * shrink[:, None]
        acc += weight[:, None] * tl.load(part_o + row[:, None] * BLOCK_D + d[None, :])
        total = total * shrink + weight
        largest = new_largest
    token, head, real = grouped_rows(start, end, kv_head, G, BLOCK_M)
    o_at = (token.to(tl.int64) * Hkv * G + head) * D
    write = real[:, None] & (d < D)[None, :]
    tl.store(o + o_at[:, None] + d[None, :], (acc / total[:, None]).to(o.dtype.element_ty), write)
    tl.store(lse + head * T + token, largest + tl.log2(total) / LOG2E, mask=real)
