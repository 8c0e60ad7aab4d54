"""The row-wise kernels at models' sizes: against the float64 reference, and beside eager torch.

In: a `Rows` that names operation and width. Out: `Finding`s of a `RowTask`, or rows of times, where
the floor is every tensor read or written once at the measured copy rate.

    RowTask(ROWS[0], "bfloat16", "triton", "cuda").check()
    tell_rows(report, ROWS[0], 10_427, torch.bfloat16, device, copy_rate, rounds=7)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from kernels import elementwise
from measuring.kernel_checks import TOLERANCE, relative_error
from measuring.report import Report
from measuring.timing import side_by_side
from measuring.workers import Finding

Results = tuple[torch.Tensor, ...]
_EPS = 1e-6
# Tokens of the checked batches: one, a few, and more rows than a program takes at once.
_TOKENS = (1, 37, 1001)


class Rows(NamedTuple):
    """An operation at a model's size: rows of `width`, or a token's `heads` of that size.

    Rotary turns `kv_heads` as well.
    """

    kernel: str
    model: str
    width: int
    heads: int = 0
    kv_heads: int = 0

    @property
    def name(self) -> str:
        """As a row of the report names it."""
        heads = f"{self.heads + self.kv_heads} heads of " if self.heads else ""
        return f"{self.kernel} {self.model}, {heads}{self.width}"

    def inputs(self, tokens: int, dtype: torch.dtype, device: str) -> list[torch.Tensor]:
        """Random ones, the same in every run."""
        vector = (self.width,)
        rows = (tokens, self.heads, self.width) if self.heads else (tokens, self.width)
        shapes = {
            "rms_norm": [rows, vector],
            "add_rms_norm": [rows, rows, vector],
            "add_layer_norm": [rows, rows, vector, vector],
            "swiglu": [rows, rows],
            "bias_gelu": [rows, vector],
            "rotary": [rows, (tokens, self.kv_heads, self.width)],
        }[self.kernel]
        generator = torch.Generator().manual_seed(0)
        drawn = [torch.randn(shape, generator=generator) for shape in shapes]
        if self.kernel == "rotary":
            turns = torch.randn(tokens, self.width, generator=generator)
            drawn += [turns.cos(), turns.sin()]
        return [x.to(device, dtype) for x in drawn]

    def run(self, inputs: list[torch.Tensor], implementation: str | None) -> Results:
        """The results, also where there is one."""
        eps = [_EPS] if "norm" in self.kernel else []
        function: Callable[..., Any] = getattr(elementwise, self.kernel)
        found = function(*inputs, *eps, implementation=implementation)
        return found if isinstance(found, tuple) else (found,)


ROWS = (
    Rows("add_rms_norm", "Mistral-7B", 4096),
    Rows("rms_norm", "Mistral-7B", 4096),
    Rows("swiglu", "Mistral-7B", 14_336),
    Rows("rotary", "Mistral-7B", 128, 32, 8),
    Rows("rms_norm", "Qwen3-0.6B", 128, 24),
    Rows("add_layer_norm", "MiniLM", 384),
    Rows("bias_gelu", "MiniLM", 1536),
)
# Widths of no power of two, for where Triton is interpreted.
TINY = (Rows("add_rms_norm", "tiny", 40), Rows("rotary", "tiny", 20, 3, 1))


class RowTask(NamedTuple):
    """What one worker checks."""

    rows: Rows
    dtype: str
    implementation: str
    device: str

    @property
    def name(self) -> str:
        """As a row of the report names it."""
        return f"{self.rows.name} {self.dtype} ({self.implementation})"

    def check(self) -> list[Finding]:
        """The largest error of each output, and what a row's company changes of it."""
        errors: dict[str, list[tuple[float, str]]] = {}
        dtype = getattr(torch, self.dtype)
        for tokens in _TOKENS:
            inputs = self.rows.inputs(tokens, dtype, self.device)
            found = self.rows.run(inputs, self.implementation)
            wanted = self.rows.run([x.double() for x in inputs], "reference")
            last = [x[-1:] if len(x) == tokens and x.dim() > 1 else x for x in inputs]
            alone = self.rows.run(last, self.implementation)
            for number, (got, want, one) in enumerate(zip(found, wanted, alone, strict=True), 1):
                where = f"{tokens} tokens"
                errors.setdefault(f"output {number}", []).append((relative_error(got, want), where))
                changed = float((one[0] != got[-1]).sum())
                errors.setdefault("numbers that company changes", []).append((changed, where))
        return [
            Finding(f"{self.name}: {what}", *_worst(told, self._bound(what)))
            for what, told in errors.items()
        ]

    def _bound(self, what: str) -> float:
        return TOLERANCE[self.dtype] if what.startswith("output") else 0.0


def _worst(told: list[tuple[float, str]], bound: float) -> tuple[float, float, str]:
    # NaN is larger than any number, and fails the check.
    error, where = max(told, key=lambda one: (one[0] != one[0], one[0]))
    return error, bound, where


def row_tasks(device: str, quick: bool) -> list[RowTask]:
    """Every operation in every dtype by Triton; on a CPU, where it is interpreted, tiny."""
    if torch.device(device).type != "cuda":
        return [RowTask(rows, "float32", "triton", device) for rows in TINY]
    cases = TINY if quick else ROWS
    return [RowTask(rows, dtype, "triton", device) for dtype in TOLERANCE for rows in cases]


def tell_rows(
    report: Report,
    rows: Rows,
    tokens: int,
    dtype: torch.dtype,
    device: torch.device,
    copy_rate: float,
    rounds: int,
) -> None:
    """The fused kernel beside the same in torch's own operations, in turns."""
    inputs = rows.inputs(tokens, dtype, str(device))
    with torch.inference_mode():
        moved = sum(x.nbytes for x in (*inputs, *rows.run(inputs, "reference")))
        calls = {"fused": partial(rows.run, inputs, None)}
        calls["eager"] = partial(rows.run, inputs, "reference")
        best, ratios = side_by_side(calls, rounds, device)
    floor = 1e3 * moved / copy_rate
    ms = {name: 1e3 * taken for name, taken in best.items()}
    report.row("rows", what=rows.name, tokens=tokens, ms=ms["fused"], eager_ms=ms["eager"],
               ratio=ratios["eager"], floor_ms=floor, floor_share=floor / ms["fused"])  # fmt: skip


def tell_product(
    report: Report, tokens: int, dtype: torch.dtype, device: torch.device, rounds: int
) -> None:
    """MiniLM's first feed-forward layer: its bias in the product or in the kernel behind it.

    torch's product adds a bias on its way out, so both move the same bytes.
    """
    x = torch.randn(tokens, 384).to(device, dtype)
    weight, bias = torch.randn(1536, 384).to(device, dtype), torch.randn(1536).to(device, dtype)
    with torch.inference_mode():
        calls: dict[str, Callable[[], object]] = {
            "fused": lambda: elementwise.bias_gelu(F.linear(x, weight), bias),
            "eager": lambda: F.gelu(F.linear(x, weight, bias)),
        }
        best, ratios = side_by_side(calls, rounds, device)
    report.row("rows", what="product and bias_gelu MiniLM, 384 to 1536", tokens=tokens,
               ms=1e3 * best["fused"], eager_ms=1e3 * best["eager"],
               ratio=ratios["eager"])  # fmt: skip
