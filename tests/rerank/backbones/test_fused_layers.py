"""Fused layers give the scores of transformers' own, and stand aside where they have to."""

from collections import Counter
from importlib import import_module

import pytest
import torch
from rerank_cases import (
    PASSAGES,
    QUERY,
    last_states,
    load_ranker,
    save_model,
    scores,
    small_model,
)
from torch import nn

from rerank.backbones import fused_layers
from rerank.backbones.fused_layers import fuse_layers
from rerank.backbones.packed_encoder import PackedEncoder

DECODERS = ("Llama", "Mistral", "Qwen2", "Qwen3")
ENCODERS = ("Bert", "Roberta", "XLMRoberta")
OPERATIONS = ("rms_norm", "add_rms_norm", "rotary", "swiglu", "add_layer_norm", "bias_gelu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A decoder of each family."""
    return {
        family: save_model(tmp_path_factory.mktemp(family), family, "smollm2")
        for family in DECODERS
    }


@pytest.fixture
def qwen3(folders):
    return folders["Qwen3"]


@pytest.fixture
def calls(monkeypatch):
    """How often each operation was called."""
    counted = Counter()

    def counting(name, function):
        def call(*args, **options):
            counted[name] += 1
            return function(*args, **options)

        return call

    for name in OPERATIONS:
        monkeypatch.setattr(fused_layers, name, counting(name, getattr(fused_layers, name)))
    return counted


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_s_scores_keep_their_bits(family, folders, calls):
    """Of three layers and what the fourth, where the pass ends, needs for queries and keys."""
    ranker = load_ranker(folders[family])
    model = ranker.backbone.model
    wanted, names = scores(ranker, QUERY, PASSAGES), list(model.state_dict())
    own_heads = "q_norm.weight" in " ".join(names)
    assert not calls
    fuse_layers(model, "reference")
    assert scores(ranker, QUERY, PASSAGES) == wanted
    assert list(model.state_dict()) == names
    layers = ranker.backbone.last_layer
    assert calls["add_rms_norm"] == calls["rotary"] == calls["swiglu"] == layers
    # Qwen3 norms the heads of queries and keys too; where the pass ends they are asked for twice.
    assert calls["rms_norm"] == layers + 1 + own_heads * (2 * layers + 4)


def test_passages_that_a_layer_leaves_out(qwen3):
    """Rows are cut in between the layers, and the pass is asked for its estimate."""
    ranker = load_ranker(qwen3)
    wanted = ranker.rerank(QUERY, PASSAGES, coverage_passages=2)
    fuse_layers(ranker.backbone.model, "reference")
    assert ranker.rerank(QUERY, PASSAGES, coverage_passages=2) == wanted


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_s_states(family, calls):
    """GELU's bias is added behind the product's sum, not in it."""
    model = small_model(family)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.2, mean=float("LayerNorm.weight" in name))
    wanted, names = last_states(model), list(model.state_dict())
    fuse_layers(model, "reference")
    torch.testing.assert_close(last_states(model), wanted, rtol=1e-5, atol=1e-5)
    assert calls == {"add_layer_norm": 4, "bias_gelu": 2}
    assert list(model.state_dict()) == names


def test_an_encoder_that_ranks(tmp_path, calls, monkeypatch):
    # On a CPU blocks would go through the layers by `encoder_blocks`, which asks no module.
    monkeypatch.setattr(PackedEncoder, "states", lambda *_: None)
    ranker = load_ranker(save_model(tmp_path, "Bert", "minilm"))
    wanted = torch.tensor(scores(ranker, QUERY, PASSAGES))
    fuse_layers(ranker.backbone.model, "reference")
    found = torch.tensor(scores(ranker, QUERY, PASSAGES))
    assert calls["add_layer_norm"] == 8
    assert (found - wanted).abs().max() <= 1e-4 * wanted.std()


def test_gradients_training_and_autocast_take_the_plain_path(calls):
    for family in ("Qwen3", "Bert"):
        model = small_model(family)
        ids = torch.arange(3, 9)[None]
        model(input_ids=ids).last_hidden_state.sum().backward()
        wanted = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        assert wanted
        model.zero_grad()
        fuse_layers(model, "reference")
        model(input_ids=ids).last_hidden_state.sum().backward()
        found = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            last_states(model)
        last_states(model.train())
    assert not calls


def test_without_a_gpu_nothing_is_fused_unless_it_is_forced(calls):
    model = small_model("Llama")
    wanted = last_states(model)
    assert fuse_layers(model) > 0
    assert torch.equal(last_states(model), wanted)
    assert not calls


@pytest.mark.parametrize("family", ["Qwen2", "Bert"])
def test_an_unknown_implementation_is_refused(family):
    model = small_model(family)
    fuse_layers(model, "fast")
    with pytest.raises(ValueError, match="unknown implementation 'fast'"):
        last_states(model)


@pytest.mark.parametrize("own", [True, False])
def test_another_attention_and_a_cache_stay_as_they_are(own, calls):
    """A language model that writes token by token, or one that runs by torch's own attention."""
    model = small_model("Mistral", own)
    wanted = last_states(model, use_cache=own)
    fuse_layers(model, "reference")
    assert torch.equal(last_states(model, use_cache=own), wanted)
    assert calls["rotary"] == 0
    assert calls["swiglu"] == 2


def test_what_stands_in_a_projection_s_place_is_called(qwen3):
    """As adapters and quantised layers do."""

    class Adapter(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x) * 1.25

    ranker = load_ranker(qwen3)
    model = ranker.backbone.model
    plain = scores(ranker, QUERY, PASSAGES)
    fuse_layers(model, "reference")
    for parent, name in ((model.layers[0].self_attn, "k_proj"), (model.layers[1].mlp, "up_proj")):
        setattr(parent, name, Adapter(getattr(parent, name)))
    found = scores(ranker, QUERY, PASSAGES)
    assert found != plain
    for module in model.modules():
        if hasattr(module, "implementation"):
            module.implementation = None
    assert scores(ranker, QUERY, PASSAGES) == found


def test_what_stands_in_an_encoder_s_dense_layer_s_place_is_called(calls):
    model = small_model("Bert")
    fuse_layers(model, "reference")
    plain = last_states(model)
    for layer in model.encoder.layer:
        layer.intermediate.dense = nn.Sequential(layer.intermediate.dense, nn.Dropout(0.5).eval())
    assert torch.allclose(last_states(model), plain, atol=1e-6)
    assert calls["bias_gelu"] == 2


def test_what_is_not_known_stays_as_it_is():
    """Other families, other activations, and classes that someone made of known ones."""
    gemma = small_model("Gemma2")
    assert fuse_layers(gemma, "reference") == 0
    gated = small_model("Llama", hidden_act="gelu")
    fuse_layers(gated, "reference")
    llama = import_module("transformers.models.llama.modeling_llama")
    assert {type(layer.mlp) for layer in gated.layers} == {llama.LlamaMLP}
    assert type(gated.norm) is not llama.LlamaRMSNorm
    assert isinstance(gated.norm, llama.LlamaRMSNorm)

    class Doubled(llama.LlamaRMSNorm):
        def forward(self, hidden_states):
            return 2 * super().forward(hidden_states)

    doubled = small_model("Llama")
    for layer in doubled.layers:
        layer.post_attention_layernorm.__class__ = Doubled
    wanted = last_states(doubled)
    fuse_layers(doubled, "reference")
    assert {type(layer) for layer in doubled.layers} == {llama.LlamaDecoderLayer}
    assert torch.equal(last_states(doubled), wanted)
    tanh = small_model("Bert", hidden_act="gelu_new")
    assert fuse_layers(tanh, "reference") == 8


def test_fusing_twice_is_fusing_once():
    model = small_model("Qwen2")
    assert fuse_layers(model) > 0
    assert fuse_layers(model) == 0
