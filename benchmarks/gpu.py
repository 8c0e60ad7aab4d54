"""The one script for the rare minutes on a GPU: checks first, then times, the most valuable first.

In: options. Out: a line a row on stdout as it comes, with the seconds used so far; the exit code is
1 when a check failed. A run that is cut off has told all before it.

    python benchmarks/gpu.py --export-models models      # where the models are installed
    python benchmarks/gpu.py --minutes 6 --models models --out gpu.jsonl
    python benchmarks/gpu.py --device cpu --quick        # without a GPU: that it runs

Parts: `check` (every kernel over a dozen ragged layouts in three dtypes against the float64
reference, every candidate of the tile sweep, every shipped model against the CPU, its list
shuffled, alone and in company); `tiles` (the forward pass of block attention with every tile that
fits); `kernels` (beside the floor and SDPA); `rows` (norms, rotary positions and activations
beside eager torch); `rerank` (a 7B decoder's shape, strings to ranking, in bf16 and in fp8, and how
long the GPU waits for the host); `fp8` (its layers beside bf16's); `mini` (beside a CrossEncoder of
its shape); `flex` (FlexAttention). Checks take at most half of the minutes. Without a GPU they
read Triton's kernels in its interpreter, tiny, what is timed is the CPU's path, and fp8 is skipped.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# This file's folder comes first otherwise, and has names of the packages it measures.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configs.command import run_command

if TYPE_CHECKING:
    from measuring.report import Report

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("check", "tiles", "kernels", "rows", "rerank", "fp8", "mini", "flex")
# Seconds after the budget when a call that never returns is ended.
_GRACE = 45


class ChecksFailedError(Exception):
    """Something is wrong, and every row of it was told."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6, help="the budget (default 6)")
    parser.add_argument("--device", help="cuda, or cpu (default: cuda; with --quick what there is)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes: to see that it runs")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--out", type=Path, help="append JSON lines to this file")
    parser.add_argument("--models", type=Path, help="a folder that --export-models wrote")
    parser.add_argument("--export-models", type=Path, help="write that folder, and end")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--workers", type=int, help="processes that check (6; 1 on a CPU)")
    parser.add_argument("--commit", help="what is measured, where git cannot tell")
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> None:
    """Check, measure, tell; or export models. Raises ChecksFailedError at the end."""
    # The machine may reach no hub, and asking costs minutes.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if options.export_models:
        export(options.export_models)
        return
    import torch
    from measuring.model_folder import use_models
    from measuring.report import Report

    device = torch.device(chosen_device(options.device, options.quick))
    use_models(options.models)
    faulthandler.dump_traceback_later(60 * options.minutes + _GRACE, exit=True, file=sys.__stderr__)
    try:
        report = Report(options.minutes, options.out, options.json)
        report.row("about", **about(device, options.commit))
        if "check" in options.parts:
            check(report, device, options)
        measure(report, device, options)
        report.row("end", passed=report.passed, failures=report.failures)
    finally:
        faulthandler.cancel_dump_traceback_later()
    if report.failures:
        raise ChecksFailedError(f"{report.failures} rows say FAILED")


def chosen_device(asked: str | None, quick: bool) -> str:
    """`asked`, else the GPU; ValueError where there is none."""
    import torch

    if not torch.cuda.is_available():
        if asked is None and quick:
            return "cpu"
        if asked is None or asked.startswith("cuda"):
            raise ValueError("no CUDA device is here: --device cpu --quick runs without one")
    return asked or "cuda"


def about(device: Any, commit: str | None) -> dict[str, object]:
    """Chip, driver, versions, commit, date."""
    import torch
    from provenance import provenance

    found: dict[str, object] = dict(provenance())
    if device.type == "cuda":
        chip = torch.cuda.get_device_properties(device)
        found |= {
            "device": chip.name,
            "capability": f"{chip.major}.{chip.minor}",
            "memory_gib": round(chip.total_memory / 2**30, 1),
            "driver": _told("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "cuda": torch.version.cuda,
        }
    git = _told("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    return found | {"commit": commit or git}


def check(report: Report, device: Any, options: argparse.Namespace) -> None:
    """Kernels, tiles and models, in processes of their own; half of the minutes at most."""
    from measuring.fp8_layers import fp8_tasks, no_fp8
    from measuring.kernel_checks import interpreted_tasks, kernel_tasks
    from measuring.model_checks import fp8_model_tasks, model_tasks
    from measuring.row_kernels import row_tasks
    from measuring.tiles import tile_tasks
    from measuring.workers import run_tasks

    gpu = device.type == "cuda"
    tasks: list[Any] = list(kernel_tasks(str(device), options.quick))
    if gpu:
        tasks += row_tasks(str(device), options.quick)
        tasks += [] if options.quick else tile_tasks(device)
    elif importlib.util.find_spec("triton"):
        # Read when a worker imports Triton.
        os.environ["TRITON_INTERPRET"] = "1"
        tasks += [*interpreted_tasks(str(device)), *row_tasks(str(device), options.quick)]
    else:
        report.skipped("check", ["Triton's kernels"], "Triton is not installed")
    tasks += model_tasks(str(device), options.models, options.quick)
    if missing := no_fp8(device):
        report.skipped("check", ["fp8"], missing)
    else:
        tasks += [*fp8_tasks(str(device)), *fp8_model_tasks(str(device), options.models)]
    if gpu:
        # What is used most comes first, should the time not do for all.
        tasks.sort(key=lambda task: ("bfloat16", "fp8", "float32", "float16").index(task.dtype))
    seconds = 30 * options.minutes - report.used_s
    run_tasks(report, tasks, workers=options.workers or (6 if gpu else 1), seconds=seconds)
    os.environ.pop("TRITON_INTERPRET", None)


def measure(report: Report, device: Any, options: argparse.Namespace) -> None:
    """The parts that are timed."""
    from measuring.times import Times

    for part in Times(report, device, quick=options.quick, models=options.models).parts():
        if part.name in options.parts:
            report.run(part.name, part.reserve_s, part.steps)


def export(folder: Path) -> None:
    """Write the folder of models and tell its files and sizes."""
    from measuring.model_folder import export_models

    sizes = export_models(folder)
    for name, size in sizes.items():
        print(f"{size / 2**20:8.2f} MiB  {name}")
    print(f"{sum(sizes.values()) / 2**20:8.2f} MiB  in all")
    print("smollm2's weights are left out, too many: random ones of its shape take their place")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    return run_command(parser(), argv)


def _told(*command: str) -> str:
    """What a command prints, or that it can't."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
