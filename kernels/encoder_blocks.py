"""A whole encoder over blocks that read themselves alone: a few at a time, each few in one thread.

In: the embedding of tokens, an encoder's layers, a layout whose blocks are apart. Out, in place:
the last hidden states [T, d].

    encoder_blocks(embed, layers, layout, states, heads=12, scale=32**-0.5)

Where no block reads another (texts to be compared, not joined) nothing but a block's own rows is
needed to take it through all layers. So threads meet once a pass, states stay in a core's cache
from layer to layer, and what attention reads lies as it reads it: blocks of one rounded length are
one dense batch from the first layer on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from kernels.block_attention.cpu import chunk_mask, flash, local_dtype
from kernels.block_attention.cpu_plan import (
    CHUNK_KEYS,
    Chunk,
    Item,
    chunked,
    reads_of,
    round_up,
)
from kernels.encoder_rows import EncoderLayer, after_attention
from kernels.layout import BlockLayout, Span
from kernels.packed_linear import padded_rows
from kernels.threads import in_threads


class _Task(NamedTuple):
    """Blocks that one thread takes through all layers: `chunks` of one rounded length each.

    `tokens` int64 [R] are the tokens of its rows, chunk after chunk.
    """

    chunks: tuple[Chunk, ...]
    tokens: torch.Tensor


def are_apart(layout: BlockLayout) -> bool:
    """Whether no block of `layout` reads another: no instructions, no query blocks."""
    return not any(spans.instruction.length or spans.query.length for spans in layout.spans)


def encoder_blocks(
    embed: Callable[[torch.Tensor], torch.Tensor],
    layers: Sequence[EncoderLayer],
    layout: BlockLayout,
    states: torch.Tensor,
    *,
    heads: int,
    scale: float,
) -> None:
    """Fill `states` [T, d] with those behind `layers` of a `layout` whose blocks `are_apart`.

    `embed` makes the first states [R, d] of tokens int64 [R] of the packed batch; attention has
    `heads` heads and multiplies its logits by `scale`. A row's bits are those of `encoder_rows` and
    `block_attention`, and depend on no other block.
    """

    def fill(task: _Task) -> None:
        made = _through(task, embed(task.tokens), layers, heads, scale)
        for chunk, rows in _rows(task):
            blocks = made[rows].view(len(chunk.items), chunk.row_pad, -1)
            for item, block in zip(chunk.items, blocks, strict=True):
                states[slice(*item.rows)] = block[: item.rows.length]

    for _ in in_threads(fill, _tasks(layout, torch.get_num_threads())):
        pass


def _tasks(layout: BlockLayout, threads: int) -> Sequence[_Task]:
    """What threads do, the longest blocks first, from the layout's memo."""
    key = ("encoder blocks", threads)
    made: Sequence[_Task] = layout.memo(key, lambda: _build(layout, threads))
    return made


def _build(layout: BlockLayout, threads: int) -> list[_Task]:
    blocks = [block for spans in layout.spans for block in spans.passages if block.length]
    left = sum(round_up(block.length) for block in blocks)
    tasks: list[list[Item]] = []
    room, share = 0, 0
    for block in sorted(blocks, key=lambda block: -block.length):
        rows = round_up(block.length)
        # The last tasks are one a thread, as even as blocks can be dealt.
        if room <= 0 or (rows > room and not share):
            tasks.append([])
            if left <= threads * CHUNK_KEYS:
                share = share or -(-left // threads)
            room = share or min(CHUNK_KEYS, left // (2 * threads))
        tasks[-1].append(Item(block, Span(0, 0), block))
        room -= rows
        left -= rows
    return [_task(chunked(task)) for task in tasks]


def _task(chunks: tuple[Chunk, ...]) -> _Task:
    tokens = torch.cat([reads_of(chunk).rows for chunk in chunks])
    # Padded once here, no product has to.
    missing = padded_rows(len(tokens)) - len(tokens)
    return _Task(chunks, torch.cat([tokens, tokens[-1:].expand(missing)]))


def _rows(task: _Task) -> Iterator[tuple[Chunk, slice]]:
    """Each chunk and where its rows are."""
    start = 0
    for chunk in task.chunks:
        end = start + len(chunk.items) * chunk.row_pad
        yield chunk, slice(start, end)
        start = end


def _through(
    task: _Task, states: torch.Tensor, layers: Sequence[EncoderLayer], heads: int, scale: float
) -> torch.Tensor:
    """`states` [R, d] of a task's rows, taken through all layers."""
    dtype = local_dtype(states.dtype)
    chunks = [(chunk, rows, chunk_mask(chunk, dtype)) for chunk, rows in _rows(task)]
    attended = torch.zeros_like(states)
    for layer in layers:
        qkv = layer.inward(states).to(dtype)
        for chunk, rows, mask in chunks:
            shape = (len(chunk.items), chunk.row_pad, -1, heads, states.shape[-1] // heads)
            q, k, v = qkv[rows].view(shape).permute(2, 0, 3, 1, 4)
            made, _ = flash(q, k, v, 0.0, False, attn_mask=mask, scale=scale)
            attended[rows] = made.transpose(1, 2).flatten(0, 1).flatten(1)
        states = after_attention(attended, states, layer)
    return states
