"""Whole models through the fused Triton kernels: on a GPU, or in Triton's interpreter.

Run where `test_triton` is: the interpreter must be chosen before anything imports Triton.
"""

import pytest
from rerank_cases import last_states, small_model
from triton_cases import GPU, needs_triton

from rerank.backbones.fused_layers import fuse_layers

pytestmark = needs_triton


@pytest.mark.parametrize("family", ["Mistral", "Qwen3", "Bert"])
def test_states_are_those_of_transformers(family):
    model = small_model(family, own_attention=True).to("cuda" if GPU else "cpu")
    wanted = last_states(model)
    fuse_layers(model, "triton")
    found = last_states(model)
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()
