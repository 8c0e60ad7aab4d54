"""Run the Triton kernels' tests where there is no GPU, in Triton's interpreter."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="Triton is not installed"
    ),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the same tests ran on the GPU itself"),
]
HERE = Path(__file__).parent


def test_triton_kernels_in_the_interpreter():
    layers = HERE.parent / "rerank" / "backbones" / "test_triton_layers.py"
    kernels = ("test_triton.py", "test_triton_fp8.py", "test_triton_elementwise.py")
    run(*(HERE / name for name in kernels), layers)


@pytest.mark.slow
def test_the_shipped_models_in_the_interpreter():
    """Minutes: fp32 alone, and the cache that has most to unpack."""
    run(HERE.parent / "rerank" / "test_gpu.py", "-k", "float32 or cpu_s and 4")


def run(*arguments):
    """The interpreter must be chosen before Triton is imported, hence a process of its own."""
    options = ("-m", "pytest", "-p", "no:cacheprovider", "--tb=short")
    result = subprocess.run(
        [sys.executable, *options, *map(str, arguments)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"\d+ passed", result.stdout), result.stdout
    assert "skipped" not in result.stdout, result.stdout
