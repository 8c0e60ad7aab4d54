"""Where Triton's kernels are tested: on a GPU, or in the interpreter of a process of its own."""

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GPU = torch.cuda.is_available() and not INTERPRETED
DEVICE = "cuda" if GPU else "cpu"
# Relative errors in the Euclidean norm, against float64.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}

needs_triton = pytest.mark.skipif(
    not (GPU or INTERPRETED), reason="no CUDA device, and TRITON_INTERPRET is not 1"
)
