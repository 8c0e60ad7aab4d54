"""From the host's memory to a device, without waiting for it.

In: a tensor on the host. Out: the same on the device, in the order of what is asked of the device.

    to_device(torch.tensor([0, 3, 7]), torch.device("cuda"))

A GPU copies ordinary memory while the host waits, and what was queued before comes first: a handful
of such copies, and the host is never ahead. Pinned memory is copied when its turn comes; torch does
not use it anew before that.
"""

from __future__ import annotations

import torch


def to_device(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`host` on `device`; itself where it is there already."""
    if device.type != "cuda" or host.is_cuda:
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)
