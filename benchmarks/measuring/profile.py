"""How busy a GPU is during a call, and with what.

In: a call on a CUDA device. Out: a row: its time on the host's clock, the time in which the GPU
did anything, and the kernels that took most.

    host_share(report, "rerank", "ours 100x100", call, device)
"""

from __future__ import annotations

from collections import Counter

import torch

from measuring.report import Report
from measuring.timing import Call, synchronize, wall_ms

_SHOWN = 12


def busy(call: Call, device: torch.device) -> tuple[float, dict[str, float]]:
    """Milliseconds in which the GPU was busy during one call, and those of each kernel."""
    from torch.profiler import ProfilerActivity, profile

    synchronize(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        synchronize(device)
    kernels: Counter[str] = Counter()
    spans = []
    for event in profiler.events() or ():
        named = getattr(event, "is_user_annotation", False)
        if event.device_type == torch.autograd.DeviceType.CUDA and not named:
            start, end = event.time_range.start, event.time_range.end
            spans.append((start, end))
            kernels[event.name] += (end - start) / 1e3
    return covered(spans) / 1e3, dict(kernels.most_common(_SHOWN))


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of what `spans` [start, end) cover, overlaps counted once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def host_share(report: Report, part: str, what: str, call: Call, device: torch.device) -> None:
    """Tell how much of a call's time the GPU waits for the host."""
    if device.type != "cuda":
        report.skipped(part, [f"host share of {what}"], "no CUDA device to be kept waiting")
        return
    wall = wall_ms(call, device, 5)
    on_gpu, kernels = busy(call, device)
    report.row(part, what=f"host share of {what}", wall_ms=wall, gpu_busy_ms=on_gpu,
               host_share=1 - on_gpu / wall)  # fmt: skip
    for name, ms in kernels.items():
        report.row(part, what=f"GPU time of {what}", kernel=name[:80], ms=ms, share=ms / on_gpu)
