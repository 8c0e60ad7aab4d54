"""Accelerate's part of a run: device, precision, processes, passes a step.

Enters: `TrainingSettings`. Leaves: an `Accelerator`.
"""

import sys
from typing import Any

from rerank.training.settings import TrainingSettings


def make_accelerator(settings: TrainingSettings) -> Any:
    """An `Accelerator` of the settings' precision, device and passes a step.

    Raises `ValueError` where accelerate is missing, or its processes do not divide a step evenly.
    """
    try:
        from accelerate import Accelerator, PartialState
        from accelerate.utils import DistributedDataParallelKwargs
    except ImportError:
        raise ValueError("training needs accelerate: pip install 'blockseek[train]'") from None
    processes = PartialState(cpu=settings.device == "cpu").num_processes
    if settings.prompts_per_step % (settings.prompts_per_pass * processes):
        raise ValueError(
            f"prompts_per_step ({settings.prompts_per_step}) must be a multiple of "
            f"prompts_per_pass times {processes} processes"
        )
    passes = settings.prompts_per_step // settings.prompts_per_pass // processes
    return Accelerator(
        cpu=settings.device == "cpu",
        mixed_precision="bf16" if settings.precision == "bfloat16" else "no",
        gradient_accumulation_steps=passes,
        # Nothing above the scoring layer has a gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def forget_accelerator() -> None:
    """Accelerate keeps one state a process: the next run may want another precision."""
    state = sys.modules.get("accelerate.state")
    if state is not None and state.PartialState().num_processes == 1:
        state.AcceleratorState._reset_state(reset_partial_state=True)
