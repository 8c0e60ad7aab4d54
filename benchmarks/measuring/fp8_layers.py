"""Linear layers in fp8: checked against what they emulate, and timed beside bf16.

In: layers' sizes, a device. Out: `Finding`s; rows of times.

    Fp8Task("Mistral-7B", "cuda").check()
    time_products(report, 10_400, torch.device("cuda"), rounds=7)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from kernels import Fp8Rows, fp8_linear, missing_for_fp8, quantize_rows
from measuring.kernel_checks import relative_error
from measuring.report import Report
from measuring.timing import side_by_side
from measuring.workers import Finding

# Inputs and outputs of the layers that take most of a model's time.
LAYERS = {
    "smollm2": ((576, 1536), (1536, 576)),
    "Mistral-7B": ((4096, 4096), (4096, 14336), (14336, 4096)),
}
ROWS = (1, 17, 255, 3000)


class Fp8Task(NamedTuple):
    """What one worker checks: the layers of `model` on `device`."""

    model: str
    device: str

    # Its place in the order of checks.
    dtype = "fp8"

    @property
    def name(self) -> str:
        """As a row names it."""
        return f"linear layers of {self.model} in fp8 on {self.device}"

    def check(self) -> list[Finding]:
        """The largest error of each kind over all layers and numbers of rows."""
        worst: dict[str, Finding] = {}
        for inputs, outputs in LAYERS[self.model]:
            for what, error, bound, where in self._layer(inputs, outputs):
                found = Finding(f"{self.name}: {what}", error, bound, where)
                # A product's bound depends on its length.
                worst[what] = max(worst.get(what, found), found, key=lambda f: f.error - f.bound)
        return list(worst.values())

    def _layer(self, inputs: int, outputs: int) -> list[tuple[str, float, float, str]]:
        layer = f"{inputs} -> {outputs}"
        generator = torch.Generator().manual_seed(inputs)
        x, w = (torch.randn(n, inputs, generator=generator) for n in (max(ROWS), outputs))
        x, weight = x.to(self.device).bfloat16(), quantize_rows(w.to(self.device))
        bias = torch.randn(outputs, generator=generator).to(self.device).bfloat16()
        rows, plain = quantize_rows(x), quantize_rows(x, "reference")
        a, b = (one.values.view(torch.uint8) for one in (rows, plain))
        other = (a != b).float().mean().item()
        found = [("share of other numbers", other, 0.0 if _rounds_once(x.device) else 0.02, layer)]
        # bf16 at the end; Hopper keeps 14 bits of a sum that grows by 32 products at a time.
        bound = 2.0**-8 + inputs / 32 * 2.0**-14
        whole = fp8_linear(x, weight, bias)
        for count in ROWS:
            where = f"{layer}, {count} rows"
            part = fp8_linear(x[:count], weight, bias)
            wanted = _exact(Fp8Rows(*(one[:count] for one in plain)), weight, bias)
            found.append(("product", relative_error(part, wanted), bound, where))
            changed = (part != whole[:count]).float().mean().item()
            company = f"{where}, {changed:.2g} of the numbers"
            # Either may be off by the bound.
            apart = relative_error(part, whole[:count])
            found.append(("what company changes", apart, 2 * bound, company))
        x[7, 3] = torch.nan
        wrong = _wrong_rows(x, weight, bias, whole)
        found.append(("rows that a NaN in another changes", wrong, 0.0, layer))
        return found


def fp8_tasks(device: str) -> list[Fp8Task]:
    """The layers of every model."""
    return [Fp8Task(model, device) for model in LAYERS]


def no_fp8(device: torch.device) -> str | None:
    """Why fp8 is neither checked nor timed on `device`, if so."""
    if device.type == "cpu":
        return "a CPU emulates fp8: it would be checked against itself, and its times say nothing"
    missing = missing_for_fp8(device)
    return missing and f"fp8 {missing}"


def time_products(report: Report, rows: int, device: torch.device, rounds: int) -> None:
    """A layer of Mistral-7B in bf16, in fp8, and of that what making fp8 of its input takes."""
    for inputs, outputs in LAYERS["Mistral-7B"]:
        x = torch.randn(rows, inputs, device=device).bfloat16()
        w = torch.randn(outputs, inputs, device=device).bfloat16()
        weight = quantize_rows(w)
        calls = {
            "bf16": lambda x=x, w=w: F.linear(x, w),
            "fp8": lambda x=x, weight=weight: fp8_linear(x, weight),
            "rows to fp8": lambda x=x: quantize_rows(x),
        }
        times, ratios = side_by_side(calls, rounds, device)
        for what, taken in times.items():
            report.row("fp8", what=what, rows=rows, layer=f"{inputs} -> {outputs}",
                       ms=1000 * taken, ratio=ratios[what])  # fmt: skip


def _exact(rows: Fp8Rows, weight: Fp8Rows, bias: torch.Tensor) -> torch.Tensor:
    """The product of what fp8 kept, in float64."""
    values, others = (each.values.double() * each.scale for each in (rows, weight))
    return values @ others.t() + bias


def _wrong_rows(x: torch.Tensor, weight: Fp8Rows, bias: torch.Tensor, whole: torch.Tensor) -> float:
    """How many rows are other than in `whole` where row 7 of `x` has a NaN, and itself is none."""
    found = fp8_linear(x, weight, bias)
    wrong = (found != whole).any(1)
    wrong[7] = not found[7].isnan().all()
    return float(wrong.sum())


def _rounds_once(device: torch.device) -> bool:
    """Triton rounds to fp16 on the way where the chip has no conversion from fp32."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (9, 0)
