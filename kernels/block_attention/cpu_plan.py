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
from typing import NamedTuple

from kernels.layout import BlockLayout, Span, pieces

_ROUND = 16
# Keys gathered at once: large enough to occupy the cores, small enough to stay in cache.
_CHUNK_KEYS = 2048
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
    # Where the item's rows go among the partial results of a query block.
    partial: int = 0


class Chunk(NamedTuple):
    """Items that one dense call does together."""

    items: tuple[Item, ...]
    row_pad: int
    key_pad: int
    shift: int | None


class QueryTile(NamedTuple):
    """Rows of a query block, whose partial results over `parts` blocks start at `partial`."""

    rows: Span
    parts: int
    partial: int


class Plan(NamedTuple):
    """`local`: instruction and passage rows. `query`: query rows per block, merged by `tiles`."""

    local: tuple[Chunk, ...]
    query: tuple[Chunk, ...]
    tiles: tuple[QueryTile, ...]
    partial_rows: int


def round_up(count: int) -> int:
    """The next multiple of 16."""
    return -(-count // _ROUND) * _ROUND


def items_per_chunk(pad: int) -> int:
    """How many items of `pad` tokens make a chunk."""
    return max(1, _CHUNK_KEYS // pad)


def attention_plan(layout: BlockLayout, causal: bool) -> Plan:
    """The plan of a layout, from its memo."""
    return layout.memo(("cpu attention plan", causal), lambda: _build(layout, causal))


def chunked(items: Sequence[Item]) -> tuple[Chunk, ...]:
    """Group items of equal rounded shape, short ones first, at most `_CHUNK_KEYS` keys a chunk."""
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
    tiles: list[QueryTile] = []
    partial = 0
    for spans in layout.spans:
        local += _block_items(spans.instruction, _NONE, causal)
        for passage in spans.passages:
            local += _block_items(passage, spans.instruction, causal)
        others = [span for span in (spans.instruction, *spans.passages) if span.length]
        for rows in pieces(spans.query, QUERY_ROWS):
            own = Span(spans.query.start, rows.end) if causal else spans.query
            shift = rows.start - spans.query.start if causal else None
            parts = [Item(rows, _NONE, span) for span in others]
            parts.append(Item(rows, _NONE, own, shift))
            tiles.append(QueryTile(rows, len(parts), partial))
            for part in parts:
                query.append(part._replace(partial=partial))
                partial += rows.length
    return Plan(chunked(local), chunked(query), tuple(tiles), partial)


def _block_items(block: Span, prefix: Span, causal: bool) -> list[Item]:
    if not causal:
        return [Item(block, prefix, block)] if block.length else []
    return [
        Item(rows, prefix, Span(block.start, rows.end), prefix.length + rows.start - block.start)
        for rows in pieces(block, _CAUSAL_ROWS)
    ]
