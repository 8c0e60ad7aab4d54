"""What a measurement was made on: printed above every table, saved beside every result.

In: nothing. Out: a dictionary of device, processor, threads, versions and date.

    print(provenance()["device"])
"""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch


def provenance() -> dict[str, str | int]:
    """Device, processor model, threads, versions of torch, triton and transformers, UTC date."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    versions = {name: _version(name) for name in ("torch", "triton", "transformers")}
    return {
        "device": device,
        "cpu": _cpu_model(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **versions,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
