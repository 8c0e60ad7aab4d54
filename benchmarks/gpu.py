"""The one script for the rare minutes on a GPU: checks first, then times, the most valuable first.

In: options. Out: a line a row on stdout as it comes, with the seconds used so far; the exit code is
1 when a check failed. A run that is cut off has told all before it.

    python benchmarks/gpu.py --export-models models      # where the models are installed
    python benchmarks/gpu.py --minutes 6 --models models --out gpu.jsonl
    python benchmarks/gpu.py --device cpu --quick        # without a GPU: that it runs

Parts: `check` (every kernel over a dozen ragged layouts in three dtypes against the float64
reference, every candidate of the tile sweep, every shipped model against the CPU, shuffled, alone
and in company); `tiles` (the forward pass of block attention with every tile that fits); `kernels`
(beside the floor and SDPA); `rerank` (a 7B decoder's shape, strings to ranking, and what the GPU
does meanwhile); `mini` (beside a CrossEncoder of its shape); `flex` (FlexAttention). Checks take at
most half of the minutes. Without a GPU the checks read Triton's kernels in its interpreter, tiny,
and nothing is timed but the CPU's path.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# This file's folder comes first otherwise, and has names of the packages it measures.
sys.path.insert(0, str(ROOT))

PARTS = ("check", "tiles", "kernels", "rerank", "mini", "flex")
# Seconds behind the budget after which a call that never returns is ended.
_GRACE = 45


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6, help="the budget (default 6)")
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:1, cpu")
    parser.add_argument("--quick", action="store_true", help="tiny shapes: to see that it runs")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--out", type=Path, help="append JSON lines to this file")
    parser.add_argument("--models", type=Path, help="a folder that --export-models wrote")
    parser.add_argument("--export-models", type=Path, help="write that folder, and end")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--workers", type=int, help="processes that check (6; 1 on a CPU)")
    parser.add_argument("--commit", help="what is measured, where git cannot tell")
    return parser.parse_args(argv)


def about(device: str, commit: str | None) -> dict[str, object]:
    """Chip, driver, versions, commit, date."""
    import torch
    from provenance import provenance

    found: dict[str, object] = dict(provenance())
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "driver": _told("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "cuda": torch.version.cuda,
        }
    git = _told("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    return found | {"commit": commit or git}


def check(report: object, options: argparse.Namespace) -> None:
    """Kernels, tiles and models in processes of their own."""
    import torch
    from gpu_report import Report
    from kernel_checks import check_kernel, interpreted_tasks, kernel_tasks
    from model_checks import check_model, model_tasks
    from workers import run_tasks

    assert isinstance(report, Report)
    device, quick = torch.device(options.device), options.quick
    end = report.left_s - 30 * options.minutes
    workers = options.workers or (6 if device.type == "cuda" else 1)
    kernels = kernel_tasks(str(device), quick)
    if device.type == "cuda":
        from gpu_tiles import tile_tasks

        kernels += [] if quick else tile_tasks(torch.bfloat16, device)
    elif importlib.util.find_spec("triton"):
        # Read when Triton is imported, which the workers do.
        os.environ["TRITON_INTERPRET"] = "1"
        kernels += interpreted_tasks(str(device))
    else:
        report.skipped("check", ["Triton's kernels"], "Triton is not installed")
    models = model_tasks(str(device), options.models, quick)
    for tasks, do in ((kernels, check_kernel), (models, check_model)):
        seconds = report.left_s - end
        run_tasks(report, "check", tasks, do, workers=workers, seconds=seconds)
    os.environ.pop("TRITON_INTERPRET", None)


def main(argv: list[str] | None = None) -> int:
    """Check, measure, and tell; the exit code."""
    options = arguments(argv)
    if options.export_models:
        return export(options.export_models)
    import torch

    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        print(
            "nothing was done: no CUDA device; --device cpu --quick runs without", file=sys.stderr
        )
        return 1
    from gpu_report import Report
    from gpu_times import Times
    from model_folder import use_models

    use_models(options.models)
    faulthandler.dump_traceback_later(60 * options.minutes + _GRACE, exit=True)
    report = Report(options.minutes, options.out, options.json)
    report.row("about", **about(options.device, options.commit))
    if "check" in options.parts:
        check(report, options)
    device = torch.device(options.device)
    for part in Times(report, device, quick=options.quick, models=options.models).parts():
        if part.name in options.parts:
            report.run(part.name, part.reserve_s, part.steps)
    report.row("end", failures=report.failures)
    faulthandler.cancel_dump_traceback_later()
    return int(report.failures > 0)


def export(folder: Path) -> int:
    """Write the folder of models and tell its files and sizes."""
    from model_folder import export_models

    sizes = export_models(folder)
    for name, size in sizes.items():
        print(f"{size / 2**20:8.2f} MiB  {name}")
    print(f"{sum(sizes.values()) / 2**20:8.2f} MiB  in all")
    print("smollm2's weights are left out, too many: random ones of its shape take their place")
    return 0


def _told(*command: str) -> str:
    """What a command prints, or why it doesn't."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
