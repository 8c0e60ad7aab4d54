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
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from provenance import provenance
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from kernels import (
    BlockLayout,
    CachedLayout,
    CachedRequest,
    QuantizedTokens,
    RequestBlocks,
    block_attention,
    block_score,
    cached_attention,
    chosen_implementation,
    quantize_tokens,
)


class Shape(NamedTuple):
    """Attention of one layer of a model."""

    name: str
    heads: int
    kv_heads: int
    head_size: int
    causal: bool


MINILM = Shape("MiniLM", 12, 12, 32, False)
SHAPES = [MINILM, Shape("Qwen3-0.6B", 16, 8, 128, True), Shape("Mistral-7B", 32, 8, 128, True)]
INSTRUCTION, QUERY, MEAN, SIGMA = 24, 20, 100, 0.5


def layout_of(passages: int, device: torch.device) -> BlockLayout:
    """One request of `passages` log-normal lengths, the same ones in every run."""
    generator = torch.Generator().manual_seed(passages)
    normal = torch.randn(passages, generator=generator, dtype=torch.float64)
    lengths = torch.exp(normal * SIGMA + math.log(MEAN) - SIGMA**2 / 2).round().clamp(min=4)
    blocks = RequestBlocks(INSTRUCTION, lengths.int().tolist(), QUERY)
    return BlockLayout.build([blocks], device=device)


def dense_mask(layout: BlockLayout, causal: bool) -> torch.Tensor:
    """bool [T,T]."""
    block = layout.token_block
    last = layout.num_blocks - 1
    mask = (block[:, None] == block) | (block == 0)[None, :] | (block == last)[:, None]
    if causal:
        index = torch.arange(len(block), device=layout.device)
        mask &= (block[:, None] != block) | (index[:, None] >= index)
    return mask


def flex_mask(layout: BlockLayout, causal: bool) -> Any:
    """FlexAttention's sparse mask of 128 x 128 tiles with the same rule, as two runs of keys a row.

    Written with the blocks' numbers instead, it does not compile for the CPU with dynamic shapes.
    """
    T, instruction = layout.num_tokens, layout.requests[0].instruction
    offsets = layout.block_offsets.long()
    query = layout.token_block == layout.num_blocks - 1
    own_start = torch.where(query, 0, offsets[layout.token_block])
    own_end = offsets[layout.token_block + 1]
    if causal:
        own_end = torch.arange(1, T + 1, device=layout.device)
    far_end = torch.where(query | (layout.token_block == 0), 0, instruction)

    def visible(_b: Any, _h: Any, row: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        own = (key >= own_start[row]) & (key < own_end[row])
        return (key < far_end[row]) | own

    compiled = layout.device.type == "cuda"
    return create_block_mask(visible, None, None, T, T, device=layout.device, _compile=compiled)


def per_block(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: BlockLayout, causal: bool
) -> torch.Tensor:
    """One SDPA call a block on [H,T,D]; a lower-right causal mask where it is needed."""
    out = torch.empty_like(q)
    spans = layout.spans[0]
    first = slice(*spans.instruction)
    for block in (spans.instruction, *spans.passages, spans.query):
        rows = slice(*block)
        if block == spans.query:
            keys, values = k, v
        elif block == spans.instruction:
            keys, values = k[:, first], v[:, first]
        else:
            keys, values = (torch.cat((x[:, first], x[:, rows]), dim=1) for x in (k, v))
        mask = None
        if causal:
            mask = torch.ones(block.length, keys.shape[1], dtype=torch.bool, device=q.device)
            mask = mask.tril(keys.shape[1] - block.length)
        attended = scaled_dot_product_attention(
            q[None, :, rows], keys[None], values[None], attn_mask=mask, enable_gqa=True
        )
        out[:, rows] = attended[0]
    return out


def attention_work(layout: BlockLayout, shape: Shape, dtype: torch.dtype) -> tuple[float, float]:
    """(flops, bytes) that nothing can avoid: pairs under the mask, each tensor once."""
    pairs = 0.0
    for instruction, passages, query in layout.requests:
        for length, others in (
            (instruction, 0),
            *((n, instruction) for n in passages),
            (query, instruction + sum(passages)),
        ):
            own = length * (length + 1) / 2 if shape.causal else length * length
            pairs += own + length * others
    T = layout.num_tokens
    moved = T * shape.head_size * (2 * shape.heads + 2 * shape.kv_heads) * dtype.itemsize
    return 4 * pairs * shape.heads * shape.head_size, moved + T * shape.heads * 4


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Time of one call; on a GPU between two events."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def rates(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """(flops, bytes) a second of a large matrix product and of a large copy, best of several."""
    side = 8192 if device.type == "cuda" else 1536
    a = torch.randn(side, side, device=device).to(dtype)
    source = torch.empty((1 << 30) if device.type == "cuda" else (1 << 27), dtype=torch.uint8)
    source = source.to(device).fill_(1)
    target = torch.empty_like(source)
    product = min(seconds(lambda: a @ a, device) for _ in range(8))
    copy = min(seconds(lambda: target.copy_(source), device) for _ in range(8))
    return 2 * side**3 / product, 2 * source.numel() / copy


def affordable(shape: Shape, passages: int, device: torch.device) -> list[str]:
    """The alternatives worth waiting for: on the CPU, not those that take minutes or gigabytes."""
    T = layout_of(passages, torch.device("cpu")).num_tokens
    methods = ["per_block_sdpa"]
    square = 4.0 * T**2 * shape.heads * shape.head_size
    if device.type == "cuda" or square < 3e11:
        methods.append("masked_sdpa")
    # FlexAttention's mask is first built as a dense T x T one.
    if device.type == "cuda" or T < 25_000:
        methods.append("flex")
    return methods


class Row(NamedTuple):
    """One line of the table; times in milliseconds, the rest as multiples of ours."""

    operation: str
    shape: str
    passages: int
    tokens: int
    method: str
    ms: float
    ratio: float
    floor_ms: float


def side_by_side(
    calls: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> tuple[dict[str, float], dict[str, float]]:
    """Best time of each call, and its median ratio to `ours` over rounds that time all in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in calls.items():
        seconds(call, device)
        if name == "ours":
            seconds(call, device)
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    ratios = {
        name: sorted(t / ours for t, ours in zip(taken, times["ours"], strict=True))[rounds // 2]
        for name, taken in times.items()
    }
    return {name: min(taken) for name, taken in times.items()}, ratios


def measure(
    shape: Shape,
    passages: int,
    methods: list[str],
    rounds: int,
    dtype: torch.dtype,
    device: torch.device,
    chip: tuple[float, float],
    flex: Callable[..., Any] | None,
) -> list[Row]:
    """Rows of all operations at one shape and number of passages."""
    layout = layout_of(passages, device)
    T = layout.num_tokens
    heads = (shape.heads, shape.kv_heads, shape.kv_heads)
    generator = torch.Generator().manual_seed(0)
    # Head-major, as transformers hands them over.
    hq, hk, hv = (
        torch.randn(h, T, shape.head_size, generator=generator).to(device, dtype) for h in heads
    )
    q, k, v = (x.transpose(0, 1) for x in (hq, hk, hv))
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: block_attention(q, k, v, layout, causal=shape.causal)
    }
    if "masked_sdpa" in methods:
        mask = dense_mask(layout, shape.causal)
        calls["masked_sdpa"] = lambda: scaled_dot_product_attention(
            hq[None], hk[None], hv[None], attn_mask=mask, enable_gqa=True
        )
    if "per_block_sdpa" in methods:
        calls["per_block_sdpa"] = lambda: per_block(hq, hk, hv, layout, shape.causal)
    if "flex" in methods and flex is not None:
        sparse = flex_mask(layout, shape.causal)
        grouped = shape.heads != shape.kv_heads
        calls["flex"] = lambda: flex(
            hq[None],
            hk[None],
            hv[None],
            block_mask=sparse,
            enable_gqa=grouped,
        )
    best, ratios = side_by_side(calls, rounds, device)
    flops, moved = attention_work(layout, shape, dtype)
    floor = max(flops / chip[0], moved / chip[1]) * 1e3
    rows = [
        Row("block_attention", shape.name, passages, T, name, t * 1e3, ratios[name], floor)
        for name, t in best.items()
    ]

    passage_tokens = sum(layout.requests[0].passages)
    key_bytes = passage_tokens * shape.kv_heads * shape.head_size * dtype.itemsize
    signals = q[-2:].contiguous()
    calls = {"ours": lambda: block_score(signals, k, layout, signal_request=[0, 0])}
    best, ratios = side_by_side(calls, rounds, device)
    floor = key_bytes / 2 / chip[1] * 2e3
    rows.append(Row("block_score", shape.name, passages, T, "ours", best["ours"] * 1e3, 1.0, floor))

    spans = layout.spans[0]
    cached = CachedLayout.build([CachedRequest(spans.instruction, spans.passages, QUERY)], device)
    query = slice(*spans.query)
    fresh = [x[query].contiguous() for x in (q, k, v)]
    for bits in (16, 8, 4):
        pools = [
            QuantizedTokens(x.contiguous()) if bits == 16 else quantize_tokens(x, bits)
            for x in (k, v)
        ]
        stored = sum(x.values.nbytes + (0 if x.scale is None else x.scale.nbytes) for x in pools)
        name = f"cached_attention {pools[0].bits} bit"
        calls = {
            "ours": lambda pools=pools: cached_attention(  # type: ignore[misc]
                *fresh, *pools, cached, causal=shape.causal
            )
        }
        best, _ = side_by_side(calls, rounds, device)
        rows.append(
            Row(name, shape.name, passages, T, "ours", best["ours"] * 1e3, 1.0,
                stored / chip[1] * 1e3)
        )  # fmt: skip
    return rows


def summary(rows: list[Row], growth: float) -> dict[str, float]:
    """The figures that the targets are about, at MiniLM's shape and 100 passages."""
    found = {
        row.method: row.ratio
        for row in rows
        if row[:3] == ("block_attention", MINILM.name, 100) and row.method != "ours"
    }
    named = {f"{name}_ratio": round(ratio, 3) for name, ratio in found.items()}
    return named | {"growth_100_to_200": round(growth, 3)}


def growth(device: torch.device, dtype: torch.dtype, rounds: int) -> float:
    """Median of time(200 passages) / time(100 passages) per token of each, timed in turns."""
    calls = {}
    for passages in (100, 200):
        layout = layout_of(passages, device)
        shape = (MINILM.heads, layout.num_tokens, MINILM.head_size)
        x = torch.randn(shape, device=device).to(dtype).transpose(0, 1)
        name = "ours" if passages == 100 else "double"
        calls[name] = lambda x=x, layout=layout: block_attention(x, x, x, layout, causal=False)
    return side_by_side(calls, rounds, device)[1]["double"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="MiniLM at 100 passages, few rounds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--passages", type=int, nargs="+", default=[10, 50, 100, 200, 500])
    names = [shape.name for shape in SHAPES]
    parser.add_argument("--shapes", nargs="+", default=names, choices=names)
    parser.add_argument("--rounds", type=int, help="timings of each method (default 5, quick 3)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    # The CPU multiplies fp32 fastest; a GPU's tensor cores want bf16.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rounds = options.rounds or (3 if options.quick else 5)
    chip = rates(device, dtype)
    flex = torch.compile(flex_attention, dynamic=device.type == "cpu")
    rows: list[Row] = []
    chosen = [shape for shape in SHAPES if shape.name in options.shapes]
    for shape in [MINILM] if options.quick else chosen:
        for passages in [100] if options.quick else options.passages:
            methods = affordable(shape, passages, device)
            print(f"{shape.name}, {passages} passages", file=sys.stderr)
            rows += measure(shape, passages, methods, rounds, dtype, device, chip, flex)
    figures = summary(rows, growth(device, dtype, max(rounds, 5)))
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
