"""What the pass up to the last scoring layer loads and computes, and what it leaves out."""

import pytest
import torch
from rerank_cases import (
    DECODERS,
    OTHER_DECODERS,
    PASSAGES,
    QUERY,
    dense_mass,
    dense_run,
    load_ranker,
    packed,
    save_model,
    scores,
)
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, MistralConfig, MistralForCausalLM

from rerank.backbones.block_interface import BlockContext, register
from rerank.prompt.candidates import as_candidates
from rerank.prompt.template import fill


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """32 layers in Mistral-7B's proportions, of which layer 20 scores."""
    folder = save_model(
        tmp_path_factory.mktemp("deep"),
        "Mistral",
        "smollm2",
        num_hidden_layers=32,
        hidden_size=32,
        intermediate_size=112,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.02,
    )
    return folder, load_ranker(folder)


def test_loaded_parameters_at_layer_20_of_32(deep):
    """The names that are left, in the sizes of Mistral-7B."""
    _, ranker = deep
    names = {name for name, _ in ranker.backbone.model.named_parameters()}
    last = {name.removeprefix("layers.20.") for name in names if name.startswith("layers.20.")}
    assert last == {"input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.k_proj.weight"}
    assert not any(name.startswith("layers.21.") for name in names)
    with torch.device("meta"):
        whole = MistralForCausalLM(MistralConfig())
    assert whole.num_parameters() == pytest.approx(7.24e9, rel=0.01)
    assert names <= {name for name, _ in whole.model.named_parameters()}
    left = sum(p.numel() for name, p in whole.model.named_parameters() if name in names)
    assert left < 0.63 * whole.num_parameters()


def test_flops_at_layer_20_of_32(deep):
    """Counted by torch, attention included, against all layers without the model's head."""
    folder, ranker = deep
    prompts = packed(ranker, QUERY, [*PASSAGES, *(f"Passage {i} of many." for i in range(20))])
    whole = AutoModel.from_pretrained(folder, attn_implementation=register()).eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the counter sees its own thread alone
    try:
        with torch.inference_mode():
            with FlopCounterMode(display=False) as ours:
                ranker.backbone.read(prompts)
            with FlopCounterMode(display=False) as full:
                whole(
                    input_ids=prompts.input_ids[None],
                    position_ids=prompts.positions[None],
                    use_cache=False,
                    block_context=BlockContext(prompts.layout, causal=True),
                )
    finally:
        torch.set_num_threads(threads)
    layer = full.get_total_flops() / 32
    assert 20 * layer < ours.get_total_flops() < 20.2 * layer
    assert ours.get_total_flops() < 0.65 * full.get_total_flops()


@pytest.mark.parametrize("family", [*DECODERS, *OTHER_DECODERS])
def test_the_last_layer_of_each_family(tmp_path, family):
    """Fused projections and norms over all heads stay as they are; nobody's MLP is kept."""
    folder = save_model(tmp_path, family, "smollm2")
    ranker = load_ranker(folder)
    model = ranker.backbone.model
    last = {name for name, _ in model.layers[2].named_parameters()}
    assert not any("mlp" in name or "o_proj" in name for name in last)
    narrow = type(model.layers[2].self_attn).__name__.startswith("Narrow")
    assert narrow == (family not in ("Phi3", "Olmo2"))
    assert any("v_proj" in name or "qkv_proj" in name for name in last) != narrow
    if family in OTHER_DECODERS:
        texts = fill(ranker.settings, QUERY, as_candidates(PASSAGES))
        blocks = [texts.instruction, *texts.passages, texts.query]
        run = dense_run(folder, blocks, attends=True, query_position=8192)
        wanted = dense_mass(run, 2, run.blocks[-1][-2:])
        found = torch.tensor(scores(ranker, QUERY, PASSAGES)).double()
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
