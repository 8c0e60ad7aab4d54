"""The tile tables of the Triton kernels: which program does which rows and reads which keys.

In: a `BlockLayout`. Out: int32 tables on its device, made once and kept in its memo.

    row_tiles(layout, causal=False, tokens=32).tiles  # [n, 7]

Every token's keys are two runs of the packed batch: its own block, and one run before it (the
instruction, or for the query block all of its request). Every key's readers are two runs as well:
its own block, and one run behind it (the query block, or for instruction keys all of the request).
So one row of a table describes any tile, of queries or of keys:

    start end | own_start own_end | far_start far_end | slot

with tokens [start, end) of the tile and the two runs it walks through. A run longer than
`SPLIT_TOKENS` is cut, and the pieces write partial results into numbered slots, which `merges` adds
up in order: `start end first_slot end_slot`. Cuts depend on the tile's own request alone, so a
request has the same arithmetic in any batch. Long tiles come first, so that none starts last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from kernels.host import to_device
from kernels.layout import BlockLayout, Span, pieces

SPLIT_TOKENS = 1024
_NONE = Span(0, 0)


class TileTable(NamedTuple):
    """`tiles` int32 [n,7], `merges` int32 [m,4], and the number of slots for partial results."""

    tiles: torch.Tensor
    merges: torch.Tensor
    num_slots: int


def row_tiles(layout: BlockLayout, causal: bool, tokens: int) -> TileTable:
    """Tiles of at most `tokens` query tokens with the keys they see."""
    key = ("row tiles", causal, tokens)
    return layout.memo(key, lambda: _table(layout, list(_rows(layout, causal, tokens))))


def key_tiles(layout: BlockLayout, causal: bool, tokens: int) -> TileTable:
    """Tiles of at most `tokens` keys with the query tokens that see them."""
    key = ("key tiles", causal, tokens)
    return layout.memo(key, lambda: _table(layout, list(_keys(layout, causal, tokens))))


def _rows(layout: BlockLayout, causal: bool, size: int) -> Iterator[tuple[Span, Span, Span]]:
    """(tile, own run, far run) of all query tiles."""
    for spans in layout.spans:
        before = Span(spans.instruction.start, spans.query.start)
        blocks = [(spans.instruction, _NONE)]
        blocks += [(passage, spans.instruction) for passage in spans.passages]
        for block, far in [*blocks, (spans.query, before)]:
            for tile in pieces(block, size):
                yield tile, Span(block.start, tile.end if causal else block.end), far


def _keys(layout: BlockLayout, causal: bool, size: int) -> Iterator[tuple[Span, Span, Span]]:
    """(tile, own run, far run) of all key tiles."""
    for spans in layout.spans:
        behind = Span(spans.instruction.end, spans.query.end)
        blocks = [(spans.instruction, behind)]
        blocks += [(passage, spans.query) for passage in spans.passages]
        for block, far in [*blocks, (spans.query, _NONE)]:
            for tile in pieces(block, size):
                yield tile, Span(tile.start if causal else block.start, block.end), far


def _table(layout: BlockLayout, work: list[tuple[Span, Span, Span]]) -> TileTable:
    tiles: list[tuple[int, ...]] = []
    merges: list[tuple[int, ...]] = []
    slots = 0
    for tile, own, far in work:
        if own.length + far.length <= SPLIT_TOKENS:
            tiles.append((*tile, *own, *far, -1))
            continue
        runs = [(_NONE, piece) for piece in pieces(far, SPLIT_TOKENS)]
        runs += [(piece, _NONE) for piece in pieces(own, SPLIT_TOKENS)]
        tiles += [
            (*tile, *own_part, *far_part, slots + i) for i, (own_part, far_part) in enumerate(runs)
        ]
        merges.append((*tile, slots, slots + len(runs)))
        slots += len(runs)
    tiles.sort(key=lambda tile: (tile[2] - tile[3] + tile[4] - tile[5], tile))
    return TileTable(_int32(tiles, 7, layout), _int32(merges, 4, layout), slots)


def _int32(rows: list[tuple[int, ...]], width: int, layout: BlockLayout) -> torch.Tensor:
    return to_device(torch.tensor(rows, dtype=torch.int32).view(-1, width), layout.device)
