"""How much memory a call allocates, counted tensor by tensor.

    peak_bytes(lambda: torch.ones(1000) + 1)  # 8000

The resident size of a process depends on what it did before and on what its allocator kept; the
sum of what torch asks for does not.
"""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes of host memory that torch held at once during `call`, beyond those before.

    One thread: torch's profiler sees no allocation of another one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            call()
    finally:
        torch.set_num_threads(threads)
    events = [
        event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
