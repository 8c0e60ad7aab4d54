"""A short row on a CPU is read by one thread: waiting for a second takes longer than it helps.

Enters: what reads packed prompts. Leaves: what it returns, with the same bits.

    readout = in_fewest_threads(self._read, prompts)

A layer of a hundred rows is dozens of operations of some microseconds, after each of which torch's
threads wait for each other, and ours for theirs.
"""

from collections.abc import Callable
from typing import TypeVar

import torch

from kernels.threads import in_threads
from rerank.prompt.packing import PackedPrompts

Result = TypeVar("Result")
# A query, or one short passage with it: `mini`'s time for these was the largest part waiting.
_SHORT = 128


def in_fewest_threads(read: Callable[[PackedPrompts], Result], prompts: PackedPrompts) -> Result:
    """read(prompts), within one thread where the row is short and no gradient is asked for.

    On a GPU, under autocast (which belongs to a thread) and for longer rows it is a plain call.
    """
    row = prompts.input_ids
    plain = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    if plain or row.device.type != "cpu" or len(row) > _SHORT:
        return read(prompts)
    (result,) = in_threads(read, [prompts])
    return result
