"""Clocks for benchmarks: one call's time, several calls' in turns, and what the chip can do.

In: calls without arguments and a device. Out: seconds or milliseconds, rates a second.

    side_by_side({"ours": ours, "peer": peer}, rounds=5, device=torch.device("cpu"))
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import lru_cache

import torch

Call = Callable[[], object]
# GPU cycles, about a millisecond: meanwhile the host queues the call that is timed.
_HEAD_START = 2_000_000


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done all it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Call, device: torch.device) -> float:
    """Time of one call; on a GPU the device's own, between two events, with nothing in its L2.

    The host is a millisecond ahead there: what it needs beyond that counts.
    """
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(_HEAD_START)
        _more_than_l2(device).zero_()
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def wall_ms(call: Call, device: torch.device, rounds: int) -> float:
    """The median of `rounds` calls on the host's clock, after one that warms up."""
    times = []
    for _ in range(rounds + 1):
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def host_ms(call: Call, device: torch.device, repeats: int) -> float:
    """What the host spends on a call that a GPU runs later: the mean of `repeats` queued calls."""
    call()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    spent = time.perf_counter() - start
    synchronize(device)
    return 1000 * spent / repeats


def side_by_side(
    calls: dict[str, Call], rounds: int, device: torch.device
) -> tuple[dict[str, float], dict[str, float]]:
    """Best seconds of each call, and its median ratio to the first over rounds that time all."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    first = next(iter(calls))
    for name, call in calls.items():
        seconds(call, device)
        if name == first:
            seconds(call, device)
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    ratios = {
        name: statistics.median(t / own for t, own in zip(taken, times[first], strict=True))
        for name, taken in times.items()
    }
    return {name: min(taken) for name, taken in times.items()}, ratios


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Flops a second of a product of random matrices of `side` squared, the best of eight."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: a @ b, device) for _ in range(8))


def copy_rate(device: torch.device, size: int) -> float:
    """Bytes a second, read and written, of a copy of `size` bytes, the best of eight."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / min(seconds(lambda: target.copy_(source), device) for _ in range(8))


def rates(device: torch.device, dtype: torch.dtype, quick: bool = False) -> tuple[float, float]:
    """(flops, bytes) a second of a large matrix product and of a large copy."""
    if device.type == "cuda":
        return matrix_rate(device, dtype, 8192), copy_rate(device, 1 << 30)
    return matrix_rate(device, dtype, 256 if quick else 1536), copy_rate(device, 1 << 27)


@lru_cache
def _more_than_l2(device: torch.device) -> torch.Tensor:
    return torch.empty(1 << 28, dtype=torch.uint8, device=device)
