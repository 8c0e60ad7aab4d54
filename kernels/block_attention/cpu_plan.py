"""How the CPU path cuts a layout into equal shapes: made once per layout, kept in its memo.

In: a `BlockLayout`. Out: chunks, each a few blocks whose rows and keys round up to the same sizes,
so that one dense attention call does them all.

    plan = attention_plan(layout, causal=False)

A block's rounded size follows from its own request's lengths alone, never from its neighbours, so
its arithmetic is the same in any batch. Rows and keys are rounded up to 16: the matrix library
treats fewer than a dozen rows differently, and 16 costs less than 8 saves in calls (measured).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch

from kernels.layout import BlockLayout, Span, pieces

_ROUND = 16
# Keys gathered at once: large enough to occupy the cores, small enough to stay in cache.
CHUNK_KEYS = 1024
# Rows of a long block that share a mask; bounds the mask of a causal block to this many rows.
_CAUSAL_ROWS = 256
# Query-block rows handled at once; their partial results are per (row, passage).
QUERY_ROWS = 64
_NONE = Span(0, 0)


class Item(NamedTuple):
    """Some rows of one block and the keys they see: those of `prefix`, then those of `own`."""

    rows: Span
    prefix: Span
    own: Span
    # With a number, row i sees the first shift + i + 1 keys; with None all of them.
    shift: int | None = None


class Chunk(NamedTuple):
    """Items that one dense call does together."""

    items: tuple[Item, ...]
    row_pad: int
    key_pad: int
    shift: int | None


class QueryTile(NamedTuple):
    """Rows of a query block, whose partial results over `parts` blocks start at `partial`.

    They lie there in the order in which the chunks make them; `exact_sum` has no order.
    """

    rows: Span
    parts: int
    partial: int


def query_tiles(items: Sequence[Item]) -> tuple[QueryTile, ...]:
    """The tiles of some query rows' items, one for each set of rows."""
    counts: dict[Span, int] = {}
    for item in items:
        counts[item.rows] = counts.get(item.rows, 0) + 1
    starts = accumulate((rows.length * n for rows, n in counts.items()), initial=0)
    return tuple(
        QueryTile(rows, parts, start)
        for (rows, parts), start in zip(counts.items(), starts, strict=False)
    )


class Reads(NamedTuple):
    """The tokens that a chunk's items read: int64 [n * row_pad] and [n * key_pad].

    Behind an item's own, its last token is repeated: no other item's is ever read.
    """

    rows: torch.Tensor
    keys: torch.Tensor


class Plan(NamedTuple):
    """`local`: instruction and passage rows, by `reads`. `query`: query rows per block.

    The latter are merged by `tiles`.
    """

    local: tuple[Chunk, ...]
    reads: tuple[Reads, ...]
    query: tuple[Chunk, ...]
    tiles: tuple[QueryTile, ...]


def round_up(count: int) -> int:
    """The next multiple of 16."""
    return -(-count // _ROUND) * _ROUND


def items_per_chunk(pad: int) -> int:
    """How many items of `pad` tokens make a chunk."""
    return max(1, CHUNK_KEYS // pad)


def attention_plan(layout: BlockLayout, causal: bool) -> Plan:
    """The plan of a layout, from its memo."""
    return layout.memo(("cpu attention plan", causal), lambda: _build(layout, causal))


def chunked(items: Sequence[Item]) -> tuple[Chunk, ...]:
    """Group items of equal rounded shape, short ones first, at most `CHUNK_KEYS` keys a chunk."""
    alike: dict[tuple[int, int, int], list[Item]] = {}
    for item in items:
        keys = item.prefix.length + item.own.length
        shift = -1 if item.shift is None else item.shift
        alike.setdefault((round_up(keys), round_up(item.rows.length), shift), []).append(item)
    chunks = []
    for (key_pad, row_pad, shift), group in sorted(alike.items()):
        size = items_per_chunk(max(key_pad, row_pad))
        for first in range(0, len(group), size):
            part = tuple(group[first : first + size])
            chunks.append(Chunk(part, row_pad, key_pad, None if shift < 0 else shift))
    return tuple(chunks)


def _build(layout: BlockLayout, causal: bool) -> Plan:
    local: list[Item] = []
    query: list[Item] = []
    for spans in layout.spans:
        local += _block_items(spans.instruction, _NONE, causal)
        for passage in spans.passages:
            local += _block_items(passage, spans.instruction, causal)
        for rows in pieces(spans.query, QUERY_ROWS):
            others = (spans.instruction, *spans.passages)
            query += [Item(rows, _NONE, span) for span in others if span.length]
            query.append(own_query_item(rows, spans.query, causal))
    chunks = chunked(local)
    reads = tuple(reads_of(chunk) for chunk in chunks)
    return Plan(chunks, reads, chunked(query), query_tiles(query))


def reads_of(chunk: Chunk) -> Reads:
    """The tokens that the items of `chunk` read."""
    none = [_NONE] * len(chunk.items)
    rows = _repeated(none, [item.rows for item in chunk.items], chunk.row_pad)
    keys = ([item.prefix for item in chunk.items], [item.own for item in chunk.items])
    if keys[0] == none and all(item.own == item.rows for item in chunk.items):
        return Reads(rows, rows)
    return Reads(rows, _repeated(*keys, chunk.key_pad))


def _repeated(first: Sequence[Span], second: Sequence[Span], pad: int) -> torch.Tensor:
    """int64 [n * pad]: the tokens of each pair of spans, and the last of them again."""
    place = torch.arange(pad)
    start, length, then, end = (
        torch.tensor(numbers)[:, None]
        for numbers in (
            [span.start for span in first],
            [span.length for span in first],
            [span.start for span in second],
            [span.end for span in second],
        )
    )
    behind = torch.minimum(then + place - length, end - 1)
    return torch.where(place < length, start + place, behind).flatten()


def own_query_item(rows: Span, query: Span, causal: bool) -> Item:
    """Some rows of a query block over the query block itself."""
    if not causal:
        return Item(rows, _NONE, query)
    return Item(rows, _NONE, Span(query.start, rows.end), rows.start - query.start)


def _block_items(block: Span, prefix: Span, causal: bool) -> list[Item]:
    if not causal:
        return [Item(block, prefix, block)] if block.length else []
    return [
        Item(rows, prefix, Span(block.start, rows.end), prefix.length + rows.start - block.start)
        for rows in pieces(block, _CAUSAL_ROWS)
    ]
