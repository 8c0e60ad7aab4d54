"""Block attention on the CPU: equal shapes through torch's flash attention, bits that stay put.

In and out as `kernels.block_attention`, plus `backward`. Blocks are copied into padded chunks
of one shape (`cpu_plan`), a few thousand tokens at a time, so extra memory does not grow with the
batch and no mask is larger than one block's. torch's kernel computes every (block, head) alone,
which makes a passage's bits independent of its neighbours. A query row is computed per block and
merged by `exact_sum`, which makes its bits independent of the order of the blocks.

    o, lse = forward(q, k, v, layout, scale, causal=False)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby

import torch

from kernels.block_attention.cpu_plan import Chunk, QueryTile, Reads, attention_plan
from kernels.exact import exact_logsumexp, exact_sum
from kernels.layout import BlockLayout, Span
from kernels.linear import has_amx
from kernels.padding import Tokens, gather, scatter_add, wide_dtype
from kernels.threads import in_threads

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

# Floats of partial query results a thread holds; heads are taken in groups to stay below it, and
# in several groups for the threads to share.
_PARTIAL_FLOATS = 1 << 19
_HEAD_GROUPS = 4


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: BlockLayout,
    scale: float,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """o [T,Hq,D] in q's dtype and lse [Hq,T] in fp32 (float64 for float64 inputs)."""
    plan = attention_plan(layout, causal)
    o = torch.empty(q.shape, dtype=q.dtype)
    lse = torch.empty((q.shape[1], q.shape[0]), dtype=wide_dtype(q.dtype))
    group = q.shape[1] // k.shape[1]
    tasks: list[Callable[[], None]] = []
    for heads, kv_heads in head_groups(plan.tiles, k.shape[1], group, q.shape[2]):
        sources = [(k[:, kv_heads], v[:, kv_heads], plan.query)]
        outputs = (o[:, heads], lse[heads])
        tasks.append(partial(query_rows, q[:, heads], sources, plan.tiles, scale, *outputs))
    # Long ones first, so that no thread starts one when the others are done.
    for chunk, reads in zip(reversed(plan.local), reversed(plan.reads), strict=True):
        tasks.append(partial(_local_rows, q, k, v, chunk, reads, scale, o, lse))
    for _ in in_threads(lambda task: task(), tasks):
        pass
    return o, lse


def backward(
    grad_o: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    o: torch.Tensor,
    lse: torch.Tensor,
    layout: BlockLayout,
    scale: float,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q, k, v, in their dtypes; probabilities are recomputed from lse.

    A query row's share of each block follows from its output and log-sum-exp over all blocks, so
    the query block needs no second merge.
    """
    wide = wide_dtype(q.dtype)
    grad_q, grad_k, grad_v = (torch.zeros(x.shape, dtype=wide) for x in (q, k, v))
    plan = attention_plan(layout, causal)

    def chunk_grads(chunk: Chunk) -> tuple[torch.Tensor, ...]:
        rows, keys = _spans(chunk)
        row_lse = torch.zeros((len(rows), chunk.row_pad, q.shape[1]), dtype=wide)
        for index, item in enumerate(chunk.items):
            row_lse[index, : item.rows.length] = lse[:, slice(*item.rows)].T
        grads: tuple[torch.Tensor, ...] = _flash_backward(
            gather(grad_o, rows, chunk.row_pad, wide),
            gather(q, rows, chunk.row_pad, wide),
            gather(k, keys, chunk.key_pad, wide),
            gather(v, keys, chunk.key_pad, wide),
            gather(o, rows, chunk.row_pad, wide),
            row_lse.transpose(1, 2),
            0.0,
            False,
            attn_mask=chunk_mask(chunk, wide),
            scale=scale,
        )
        return grads

    chunks = (*plan.local, *plan.query)
    # Chunks share keys: their gradients are added by one thread, in order.
    for chunk, parts in zip(chunks, in_threads(chunk_grads, chunks), strict=True):
        rows, keys = _spans(chunk)
        scatter_add(grad_q, parts[0], rows)
        scatter_add(grad_k, parts[1], keys)
        scatter_add(grad_v, parts[2], keys)
    return grad_q.to(q.dtype), grad_k.to(k.dtype), grad_v.to(v.dtype)


def _local_rows(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    chunk: Chunk,
    reads: Reads,
    scale: float,
    o: torch.Tensor,
    lse: torch.Tensor,
) -> None:
    """Fill the rows of a chunk of instruction and passage blocks."""
    dtype = local_dtype(q.dtype)

    def read(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        tokens = x.index_select(0, index).to(dtype)
        return tokens.unflatten(0, (len(chunk.items), -1)).transpose(1, 2)

    part, part_lse = flash(
        read(q, reads.rows),
        read(k, reads.keys),
        read(v, reads.keys),
        0.0,
        False,
        attn_mask=chunk_mask(chunk, dtype),
        scale=scale,
    )
    for index, item in enumerate(chunk.items):
        start, end = item.rows
        o[start:end] = part[index, :, : end - start].transpose(0, 1)
        lse[:, start:end] = part_lse[index, :, : end - start]


def local_dtype(dtype: torch.dtype) -> torch.dtype:
    """What the attention of instruction and passage blocks is computed in, of q's `dtype`."""
    # The matrix unit takes bf16 and adds in fp32; nothing else here is rounded to fewer bits.
    return dtype if dtype == torch.bfloat16 and has_amx() else wide_dtype(dtype)


def _attend(
    q: torch.Tensor, k: Tokens, v: Tokens, chunk: Chunk, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """o [n,Hq,row_pad,D] and lse [n,Hq,row_pad] of the chunk's n items, each alone."""
    rows, keys = _spans(chunk)
    wide = wide_dtype(q.dtype)
    if rows.count(rows[0]) == len(rows):
        query = gather(q, rows[:1], chunk.row_pad, wide).expand(len(rows), -1, -1, -1)
    else:
        query = gather(q, rows, chunk.row_pad, wide)
    return flash(
        query,
        gather(k, keys, chunk.key_pad, wide),
        gather(v, keys, chunk.key_pad, wide),
        0.0,
        False,
        attn_mask=chunk_mask(chunk, wide),
        scale=scale,
    )


def _spans(chunk: Chunk) -> tuple[list[tuple[Span, ...]], list[tuple[Span, ...]]]:
    """The rows of each item, and its keys."""
    rows: list[tuple[Span, ...]] = [(item.rows,) for item in chunk.items]
    return rows, [(item.prefix, item.own) for item in chunk.items]


def chunk_mask(chunk: Chunk, dtype: torch.dtype) -> torch.Tensor:
    """0 where a key is seen and -inf elsewhere: [n,1,1,keys], or [1,1,rows,keys] if causal."""
    key = torch.arange(chunk.key_pad)
    if chunk.shift is None:
        counts = [item.prefix.length + item.own.length for item in chunk.items]
        seen = key < torch.tensor(counts)[:, None, None, None]
    else:
        # The padding lies behind every real row's last key, so it needs no mask of its own.
        seen = (key <= torch.arange(chunk.row_pad)[:, None] + chunk.shift)[None, None]
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)


def head_groups(
    tiles: Sequence[QueryTile], kv_heads: int, group: int, D: int
) -> Iterator[tuple[slice, slice]]:
    """(query heads, key heads) slices, so small that their partial results fit the bound."""
    if tiles:
        step = max(1, _PARTIAL_FLOATS // (_partial_rows(tiles) * group * D))
        step = min(step, -(-kv_heads // _HEAD_GROUPS))
        for first in range(0, kv_heads, step):
            last = min(first + step, kv_heads)
            yield slice(first * group, last * group), slice(first, last)


def _partial_rows(tiles: Sequence[QueryTile]) -> int:
    return tiles[-1].partial + tiles[-1].parts * tiles[-1].rows.length


def query_rows(
    q: torch.Tensor,
    sources: Iterable[tuple[Tokens, Tokens, Iterable[Chunk]]],
    tiles: Sequence[QueryTile],
    scale: float,
    o: torch.Tensor,
    lse: torch.Tensor,
) -> None:
    """Fill the query blocks' rows of o [T,H,D] and lse [H,T] for some of the heads.

    `sources` are keys, values and the chunks that read them; together the chunks make the partial
    results that `tiles` merge.
    """
    _, H, D = q.shape
    parts = torch.empty((_partial_rows(tiles), H, D), dtype=wide_dtype(q.dtype))
    parts_lse = torch.empty((len(parts), H), dtype=parts.dtype)
    free = {tile.rows: tile.partial for tile in tiles}
    for keys, values, chunks in sources:
        for chunk in chunks:
            part, part_lse = _attend(q, keys, values, chunk, scale)
            done = 0
            # Neighbours of the same rows are copied at once: a request often fills whole chunks.
            for rows, items in groupby(chunk.items, key=lambda item: item.rows):
                n, length = len(list(items)), rows.length
                to, end = free[rows], free[rows] + n * length
                made = slice(done, done + n)
                parts[to:end].view(n, length, H, D)[:] = part[made, :, :length].transpose(1, 2)
                parts_lse[to:end].view(n, length, H)[:] = part_lse[made, :, :length].transpose(1, 2)
                free[rows], done = end, done + n
    for tile in tiles:
        start, end = tile.rows
        merged, merged_lse = _merge(parts, parts_lse, tile)
        o[start:end] = merged
        lse[:, start:end] = merged_lse.T


def _merge(
    parts: torch.Tensor, parts_lse: torch.Tensor, tile: QueryTile
) -> tuple[torch.Tensor, torch.Tensor]:
    """o [rows,H,D] and lse [rows,H] over all blocks from those over each block (float64)."""
    rows = slice(tile.partial, tile.partial + tile.parts * tile.rows.length)
    shape = (tile.parts, tile.rows.length, *parts.shape[1:])
    part, part_lse = parts[rows].view(shape), parts_lse[rows].view(shape[:3])
    lse = exact_logsumexp(part_lse)
    terms = part * torch.exp(part_lse - lse)[..., None]
    return exact_sum(terms, part.abs().amax((0, 3))[..., None].expand(shape[1:])), lse
