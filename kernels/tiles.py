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

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from kernels.host import to_device
from kernels.layout import BlockLayout, Span

SPLIT_TOKENS = 1024
_NONE = Span(0, 0)


class TileTable(NamedTuple):
    """`tiles` int32 [n,7], `merges` int32 [m,4], and the number of slots for partial results."""

    tiles: torch.Tensor
    merges: torch.Tensor
    num_slots: int


def row_tiles(layout: BlockLayout, causal: bool, tokens: int) -> TileTable:
    """Tiles of at most `tokens` query tokens with the keys they see."""
    # A causal query sees its own block up to its tile's end.
    return _made(layout, _readers, 1, causal, tokens)


def key_tiles(layout: BlockLayout, causal: bool, tokens: int) -> TileTable:
    """Tiles of at most `tokens` keys with the query tokens that see them."""
    # A causal key is seen by its own block from its tile's start.
    return _made(layout, _read, 0, causal, tokens)


def _made(
    layout: BlockLayout,
    blocks: Callable[[BlockLayout], Iterator[tuple[Span, Span]]],
    bound: int,
    causal: bool,
    tokens: int,
) -> TileTable:
    """The table of `blocks` and the runs they see, from the layout's memo.

    Where it is causal, what a tile sees of its own block begins (`bound` 0) or ends (1) with it.
    """

    def build() -> TileTable:
        tile, own, far = _tiles(list(blocks(layout)), tokens)
        if causal:
            own[:, bound] = tile[:, bound]
        return _table(tile, own, far, layout)

    made: TileTable = layout.memo(("tiles", blocks, causal, tokens), build)
    return made


def _readers(layout: BlockLayout) -> Iterator[tuple[Span, Span]]:
    """Each block, and the run before it that it reads."""
    for spans in layout.spans:
        yield spans.instruction, _NONE
        yield from ((passage, spans.instruction) for passage in spans.passages)
        yield spans.query, Span(spans.instruction.start, spans.query.start)


def _read(layout: BlockLayout) -> Iterator[tuple[Span, Span]]:
    """Each block, and the run behind it that reads it."""
    for spans in layout.spans:
        yield spans.instruction, Span(spans.instruction.end, spans.query.end)
        yield from ((passage, spans.query) for passage in spans.passages)
        yield spans.query, _NONE


def _tiles(
    blocks: list[tuple[Span, Span]], size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tile, own run, far run) int64 [n,2] each of all tiles of at most `size` tokens."""
    block, far = torch.tensor(blocks, dtype=torch.int64).view(-1, 2, 2).unbind(1)
    owner, tile = _cut(block, size)
    return tile, block[owner], far[owner]


def _cut(spans: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of `spans` [n,2] each piece is of, int64 [m], and the pieces [m,2] of `size` tokens."""
    counts = (spans[:, 1] - spans[:, 0] + size - 1) // size
    owner = torch.arange(len(spans)).repeat_interleave(counts)
    number = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
    start = spans[owner, 0] + number * size
    return owner, torch.stack([start, torch.minimum(start + size, spans[owner, 1])], dim=1)


def _table(
    tile: torch.Tensor, own: torch.Tensor, far: torch.Tensor, layout: BlockLayout
) -> TileTable:
    """The table of tiles [n,2] with their runs [n,2]; those of long runs are cut."""
    long = _length(own) + _length(far) > SPLIT_TOKENS
    whole = torch.cat([tile, own, far, torch.full((len(tile), 1), -1)], dim=1)[~long]
    cut, merges = _cut_runs(tile[long], own[long], far[long])
    # In the order of their first tokens, then the longest first, in that order.
    tiles = torch.cat([whole, cut])
    tiles = tiles[tiles[:, 0].sort(stable=True).indices]
    seen = _length(tiles[:, 2:4]) + _length(tiles[:, 4:6])
    tiles = tiles[seen.sort(stable=True, descending=True).indices]
    return TileTable(_int32(tiles, layout), _int32(merges, layout), len(cut))


def _cut_runs(
    tile: torch.Tensor, own: torch.Tensor, far: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [k,7] of the pieces of each tile's runs, far ones first, and the merges [m,4]."""
    runs = torch.stack([far, own], dim=1).view(-1, 2)
    owner, piece = _cut(runs, SPLIT_TOKENS)
    is_own = (owner % 2)[:, None].bool()
    mine = owner // 2
    slot = torch.arange(len(piece))[:, None]
    nothing = torch.zeros_like(piece)
    pieces = [torch.where(is_own, piece, nothing), torch.where(is_own, nothing, piece)]
    ends = torch.bincount(mine, minlength=len(tile)).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends])[: len(ends)]
    merges = torch.cat([tile, starts[:, None], ends[:, None]], dim=1)
    return torch.cat([tile[mine], *pieces, slot], dim=1), merges


def _length(spans: torch.Tensor) -> torch.Tensor:
    return spans[:, 1] - spans[:, 0]


def _int32(rows: torch.Tensor, layout: BlockLayout) -> torch.Tensor:
    return to_device(rows.to(torch.int32), layout.device)
