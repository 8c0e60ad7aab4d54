"""Linear layers whose rows keep their bits, against torch's own and against what they were before.

In: options. Out: one table on stdout (or JSON with `--json`): per dtype, layer and number of rows
the best time of each method and its rate, and the sums over the 36 linear layers of `mini`.

    python benchmarks/linear.py --quick

Methods: `torch` is one product of all rows, whose bits depend on the company; `steady` is
`kernels.linear`; `pieces` is what it was until 2026-11-27: in bf16 padded tiles of 256 rows, each
copied from a product of its own, else a piece of the rows a thread. The methods take turns, and the
best of many rounds is told, since other work may run beside.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# The packages lie beside this folder, which comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from provenance import provenance
from torch.nn import functional as F

from kernels import linear
from kernels.threads import in_threads

# Inputs and outputs of a layer, and how many of them a forward pass of `mini` has.
LAYERS = {(384, 384): 24, (384, 1536): 6, (1536, 384): 6, (576, 1536): 0}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Method = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Row(NamedTuple):
    """One method on one layer."""

    dtype: str
    rows: int
    inputs: int
    outputs: int
    method: str
    ms: float
    gflops: float


def pieces(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The way before, for enough rows."""
    size = 256 if x.dtype == torch.bfloat16 else -(-len(x) // torch.get_num_threads())
    padded = F.pad(x, (0, 0, 0, -len(x) % size))
    result = x.new_empty(len(padded), len(weight))

    def fill(start: int) -> None:
        result[start : start + size] = F.linear(padded[start : start + size], weight, bias)

    for _ in in_threads(fill, range(0, len(padded), size)):
        pass
    return result[: len(x)]


METHODS: dict[str, Method] = {"torch": F.linear, "steady": linear, "pieces": pieces}


def measure(dtype: str, rows: int, inputs: int, outputs: int, rounds: int) -> list[Row]:
    """The best of `rounds` times of each method, taken in turns."""
    x, weight, bias = (
        torch.randn(shape).to(DTYPES[dtype])
        for shape in ((rows, inputs), (outputs, inputs), outputs)
    )
    best = dict.fromkeys(METHODS, float("inf"))
    for _ in range(rounds):
        for name, method in METHODS.items():
            start = time.perf_counter()
            method(x, weight, bias)
            best[name] = min(best[name], time.perf_counter() - start)
    flops = 2 * rows * inputs * outputs
    return [
        Row(dtype, rows, inputs, outputs, name, seconds * 1e3, flops / seconds / 1e9)
        for name, seconds in best.items()
    ]


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,040 rows, few rounds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rows", type=int, nargs="+", default=[20, 500, 10_400])
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=30, help="times of each method (quick 5)")
    options = parser.parse_args()
    torch.manual_seed(0)
    found: list[Row] = []
    forward: dict[str, float] = {}
    for dtype in options.dtypes:
        for rows in [1040] if options.quick else options.rows:
            for (inputs, outputs), count in LAYERS.items():
                rounds = 5 if options.quick else options.rounds
                of_layer = measure(dtype, rows, inputs, outputs, rounds)
                found += of_layer
                for row in of_layer:
                    name = f"mini {dtype} {rows} rows {row.method} ms"
                    forward[name] = forward.get(name, 0.0) + count * row.ms
    forward = {name: round(ms, 2) for name, ms in forward.items()}
    if options.json:
        rows_json = [row._asdict() for row in found]
        print(json.dumps({**forward, "provenance": provenance(), "rows": rows_json}, indent=1))
        return
    print(" | ".join(f"{name} {value}" for name, value in provenance().items()))
    line = "{:<10}{:>7}{:>8}{:>9}  {:<8}{:>9}{:>9}"
    print(line.format("dtype", "rows", "inputs", "outputs", "method", "ms", "GFLOP/s"))
    for row in found:
        print(line.format(*row[:5], f"{row.ms:.3f}", f"{row.gflops:.0f}"))
    for name, ms in forward.items():
        print(f"{name} {ms}")


if __name__ == "__main__":
    main()
