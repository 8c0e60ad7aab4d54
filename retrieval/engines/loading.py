"""How an engine gets its encoder, wherever it runs.

LoadEncoder("minilm", dtype="bfloat16")(device="cuda:1")
"""

import os
from typing import NamedTuple

from retrieval.encoder import DEFAULT_ENCODER, FLOAT32, Encoder


class LoadEncoder(NamedTuple):
    """What decides an encoder, ready to be sent to the process that loads it."""

    name: str = DEFAULT_ENCODER
    max_length: int | None = None
    batch_size: int = 32
    dtype: str = FLOAT32

    def __call__(self, device: str | None = None, threads: int | None = None) -> Encoder:
        """Load it, to compute in `threads` threads; raises as `Encoder.load`."""
        encoder = Encoder.load(
            self.name,
            device=device,
            max_length=self.max_length,
            batch_size=self.batch_size,
            dtype=self.dtype,
        )
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        return encoder


def cores() -> int:
    """How many cores this process may use, or as many as OMP_NUM_THREADS allows it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    allowed = len(os.sched_getaffinity(0))
    return min(allowed, int(asked)) if asked.isdecimal() and int(asked) else allowed
