"""How high the learning rate stands: a pure function of the step.

Enters: a step and the settings. Leaves: a learning rate.
"""

import math

from rerank.training.settings import TrainingSettings


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """The rate of step `step` of `steps`, counted from 0: a straight rise, then a cosine's fall."""
    warmup = settings.warmup_share * steps
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1.0, steps - warmup)
    low = settings.final_share
    return settings.learning_rate * (low + (1 - low) * (1 + math.cos(math.pi * done)) / 2)
