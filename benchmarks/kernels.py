"""Block attention, block score and cached attention against alternatives and the chip's floor.

In: options. Out: one table on stdout (or JSON with `--json`): per model shape, number of passages
and method the best time, and how close ours comes to floor = max(flops / measured matrix rate,
bytes / measured copy rate), both rates measured in the same run.

    python benchmarks/kernels.py --quick

Passages have log-normal lengths of mean 100 tokens; instruction 24 and query 20 tokens. The
methods are timed in turns, and each ratio is a median over rounds of times taken side by side.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from measuring.attention_cases import MINILM, MISTRAL, QWEN3, make_case
from measuring.attention_peers import affordable, compiled_flex
from measuring.attention_times import Row, attention_rows, cached_rows, growth, score_row
from measuring.timing import rates
from provenance import provenance

from kernels import chosen_implementation

SHAPES = {shape.name: shape for shape in (MINILM, QWEN3, MISTRAL)}


def summary(rows: list[Row], growth: float) -> dict[str, float]:
    """The figures that the targets are about, at MiniLM's shape and 100 passages."""
    found = {
        row.method: row.ratio
        for row in rows
        if row[:3] == ("block_attention", MINILM.name, 100) and row.method != "ours"
    }
    named = {f"{name}_ratio": round(ratio, 3) for name, ratio in found.items()}
    return named | {"growth_100_to_200": round(growth, 3)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="MiniLM at 100 passages, few rounds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--passages", type=int, nargs="+", default=[10, 50, 100, 200, 500])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, help="timings of each method (default 5, quick 3)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    # The CPU multiplies fp32 fastest; a GPU's tensor cores want bf16.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rounds = options.rounds or (3 if options.quick else 5)
    chip = rates(device, dtype)
    flex = compiled_flex(device)
    rows: list[Row] = []
    for name in [MINILM.name] if options.quick else options.shapes:
        for passages in [100] if options.quick else options.passages:
            print(f"{name}, {passages} passages", file=sys.stderr)
            case = make_case(SHAPES[name], passages, dtype, device)
            methods = affordable(case.shape, passages, device)
            rows += attention_rows(case, methods, chip, rounds, flex)
            rows += [score_row(case, chip, rounds), *cached_rows(case, chip, rounds)]
    pair = (make_case(MINILM, passages, dtype, device) for passages in (100, 200))
    figures = summary(rows, growth(*pair, max(rounds, 5)))
    about = provenance() | {
        "dtype": str(dtype).removeprefix("torch."),
        "implementation": chosen_implementation(device),
        "matrix_gflops": round(chip[0] / 1e9, 1),
        "copy_gbytes": round(chip[1] / 1e9, 1),
    }
    if options.json:
        result = {**figures, "provenance": about, "rows": [row._asdict() for row in rows]}
        print(json.dumps(result, indent=1))
        return
    print(" | ".join(f"{name} {value}" for name, value in about.items()))
    line = "{:<24}{:<12}{:>5}{:>8}  {:<16}{:>9}{:>8}{:>10}"
    print(line.format("operation", "shape", "N", "tokens", "method", "ms", "x ours", "floor/ms"))
    for row in rows:
        numbers = (f"{row.ms:.2f}", f"{row.ratio:.2f}", f"{row.floor_ms / row.ms:.2f}")
        print(line.format(*row[:5], *numbers))
    print(" | ".join(f"{name} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
