"""Tile tables: every query and key once, with the runs that it sees, cut at the same places."""

import random

import pytest
import torch

from kernels.layout import BlockLayout, RequestBlocks, pieces
from kernels.tiles import SPLIT_TOKENS, key_tiles, row_tiles


def made_layout(seed):
    """Requests of blocks long and short, some of them empty."""
    chance = random.Random(seed)
    most = 3 * SPLIT_TOKENS if seed % 3 == 0 else 90

    def length():
        return chance.choice([0, 1, chance.randint(0, most)])

    return BlockLayout.build(
        [
            RequestBlocks(length(), [length() for _ in range(chance.randint(0, 5))], length())
            for _ in range(chance.randint(0, 3))
        ]
    )


def expected(layout, *, keys, causal, size):
    """Tiles and merges, a row at a time."""
    work = []
    for spans in layout.spans:
        before, behind = (spans.instruction.start, spans.query.start), spans.query
        if keys:
            runs = [(spans.instruction, (spans.instruction.end, spans.query.end))]
            runs += [(passage, tuple(behind)) for passage in spans.passages]
            runs += [(spans.query, (0, 0))]
        else:
            runs = [(spans.instruction, (0, 0))]
            runs += [(passage, tuple(spans.instruction)) for passage in spans.passages]
            runs += [(spans.query, before)]
        for block, far in runs:
            for tile in pieces(block, size):
                first = tile.start if keys and causal else block.start
                last = tile.end if causal and not keys else block.end
                work.append((tuple(tile), (first, last), far))
    tiles, merges, slots = [], [], 0
    for tile, own, far in work:
        if own[1] - own[0] + far[1] - far[0] <= SPLIT_TOKENS:
            tiles.append([*tile, *own, *far, -1])
            continue
        start = slots
        for run, is_own in ((far, False), (own, True)):
            for place in range(run[0], run[1], SPLIT_TOKENS):
                piece, none = [place, min(place + SPLIT_TOKENS, run[1])], [0, 0]
                both = [*piece, *none] if is_own else [*none, *piece]
                tiles.append([*tile, *both, slots])
                slots += 1
        merges.append([*tile, start, slots])
    tiles.sort(key=lambda row: (row[2] - row[3] + row[4] - row[5], row))
    return tiles, merges, slots


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("table", [row_tiles, key_tiles])
def test_tables_are_what_their_definition_says(table, causal):
    seen = set()
    for seed in range(60):
        layout = made_layout(seed)
        for size in (7, 64):
            found = table(layout, causal, size)
            tiles, merges, slots = expected(
                layout, keys=table is key_tiles, causal=causal, size=size
            )
            assert found.tiles.tolist() == tiles, seed
            assert found.merges.tolist() == merges, seed
            assert found.num_slots == slots
            assert found.tiles.dtype == found.merges.dtype == torch.int32
            seen.add((bool(tiles), bool(merges)))
    assert seen == {(False, False), (True, False), (True, True)}
