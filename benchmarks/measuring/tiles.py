"""Which tile block attention's forward pass should take: every candidate, checked and timed.

In: a shape, a chip. Out: the tiles that fit it, today's default first; tasks that check each
against the reference; rows of times.

    sweep(report, make_case(MISTRAL, 100, torch.bfloat16, device), chip, rounds=10)

A tile is forced through `tile=` of `kernels.block_attention.triton.forward`. Left out are those an
H100 showed to be slower: (64, 128), (128, 128), (256, 64) rows by keys, and two warps.
"""

from __future__ import annotations

import torch

from kernels.tile_sizes import Tile, attention_bytes, forward_tile, power_of_two
from kernels.triton_launch import shared_memory
from measuring.attention_cases import (
    MINILM,
    MISTRAL,
    QWEN3,
    SMOLLM2,
    Case,
    Shape,
    attention_work,
    floor_ms,
)
from measuring.attention_times import Chip
from measuring.kernel_checks import KernelTask
from measuring.report import Report
from measuring.timing import seconds

# The first four by what an H100 showed: they decide the table.
SWEPT = (
    (MISTRAL, 100), (MINILM, 100), (MISTRAL, 500), (MINILM, 500),
    (SMOLLM2, 100), (QWEN3, 100), (SMOLLM2, 500), (QWEN3, 500),
)  # fmt: skip
# Rows, keys, warps, stages.
_CANDIDATES = (
    (128, 64, 8, 3), (128, 64, 4, 3), (128, 64, 8, 2), (128, 32, 4, 4), (128, 32, 4, 3),
    (128, 32, 8, 4), (64, 64, 4, 3), (64, 64, 4, 2), (64, 32, 4, 4), (64, 32, 4, 3),
    (64, 32, 4, 5), (32, 32, 4, 4), (32, 64, 4, 3),
)  # fmt: skip


def candidates(shape: Shape, dtype: torch.dtype, device: torch.device) -> list[Tile]:
    """The tiles to try on `device`, the default first."""
    shared = shared_memory(device)
    default = forward_tile(shape.head_size, dtype, shape.group, shared)
    found = [] if default is None else [default]
    for M, N, warps, stages in _CANDIDATES:
        tile = Tile(M, N, max(16, power_of_two(shape.head_size)), warps, stages)
        fits = attention_bytes(tile, dtype.itemsize) <= shared
        if fits and tile not in found and power_of_two(shape.group) <= M:
            found.append(tile)
    return found


def tile_tasks(device: torch.device) -> list[KernelTask]:
    """Every candidate of every shape in bf16, to be checked: what is wrong need not be fast."""
    shapes = dict.fromkeys(shape for shape, _ in SWEPT)
    return [
        KernelTask("tile", shape, "bfloat16", "triton", str(device), tile=tile)
        for shape in shapes
        for tile in candidates(shape, torch.bfloat16, device)
    ]


def sweep(report: Report, case: Case, chip: Chip, rounds: int) -> None:
    """The best time of every candidate, and at the end the best of them."""
    from kernels.block_attention import triton

    q, k, v, layout, shape = case.q, case.k, case.v, case.layout, case.shape
    floor = floor_ms(attention_work(layout, shape, q.dtype), chip)
    about = {"shape": shape.name, "N": case.passages, "tokens": case.tokens}
    times: dict[Tile, float] = {}
    for number, tile in enumerate(candidates(shape, q.dtype, layout.device)):

        def call(tile: Tile = tile) -> object:
            scale = shape.head_size**-0.5
            return triton.forward(q, k, v, layout, scale, shape.causal, tile=tile)

        label = {"tile": list(tile), "default": number == 0}
        try:
            call()
            times[tile] = 1e3 * min(seconds(call, layout.device) for _ in range(rounds))
        except Exception as error:
            report.failed("tiles", f"{shape.name} {tuple(tile)}", error)
            continue
        report.row("tiles", **about, **label, ms=times[tile], floor_share=floor / times[tile])
    if times:
        best = min(times, key=times.__getitem__)
        report.row("tiles", **about, best=list(best), ms=times[best], floor_ms=floor)
