"""Whole models through the fused Triton kernels: on a GPU, or in Triton's interpreter.

Run where `test_triton` is: the interpreter must be chosen before anything imports Triton.
"""

import os

import pytest
import torch
from rerank_cases import last_states, small_model

from rerank.backbones.fused_layers import fuse_layers

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GPU = torch.cuda.is_available() and not INTERPRETED

pytestmark = pytest.mark.skipif(
    not (GPU or INTERPRETED), reason="no CUDA device, and TRITON_INTERPRET is not 1"
)


@pytest.mark.parametrize("family", ["Mistral", "Qwen3", "Bert"])
def test_states_are_those_of_transformers(family):
    model = small_model(family, own_attention=True).to("cuda" if GPU else "cpu")
    wanted = last_states(model)
    fuse_layers(model, "triton")
    found = last_states(model)
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()
