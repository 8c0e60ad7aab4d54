"""A BERT in blocks or tiles of rows reads as transformers does, and knows when it can't."""

import pytest
import torch
from rerank_cases import ATTENDING, PASSAGES, QUERY, load_ranker, save_model

from kernels.packed_linear import can_pack
from rerank.backbones.packed_encoder import PackedEncoder

has_products = pytest.mark.skipif(not can_pack(torch.bfloat16), reason="no packed products here")

# As a share of the scores' standard deviation: both ways round states to eight bits.
BOUND = 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("packed"), "Bert", "minilm")


def scores(ranker):
    return torch.tensor(ranker.scores(QUERY, PASSAGES))


def plainly(ranker, monkeypatch):
    """The scores of transformers' own forward pass."""
    with monkeypatch.context() as patch:
        patch.setattr(PackedEncoder, "states", lambda *_: None)
        return scores(ranker)


@has_products
def test_scores_are_those_of_transformers(folder, monkeypatch):
    ranker = load_ranker(folder, dtype="bfloat16")
    wanted = plainly(ranker, monkeypatch)
    made, states = [], PackedEncoder.states
    with monkeypatch.context() as patch:
        patch.setattr(PackedEncoder, "states", lambda *a: made.append(states(*a)) or made[-1])
        found = scores(ranker)
    assert made[0].dtype == torch.bfloat16
    assert (found - wanted).abs().max() <= BOUND * wanted.std()


@has_products
def test_weights_that_change_are_laid_out_again(folder, monkeypatch):
    """A trainer's checkpoints are read in between its steps."""
    ranker = load_ranker(folder, dtype="bfloat16")
    before = scores(ranker)
    model = ranker.backbone.model
    with torch.no_grad():
        model.encoder.layer[1].output.dense.weight.mul_(3)
    after = scores(ranker)
    wanted = plainly(ranker, monkeypatch)
    assert (after - wanted).abs().max() <= BOUND * wanted.std()
    assert (after - before).abs().max() > 3 * BOUND * wanted.std()


def test_float32_does_the_same_products(folder, monkeypatch):
    """To the last bits: queries, keys and values are one product here."""
    ranker = load_ranker(folder)
    wanted = plainly(ranker, monkeypatch)
    assert (scores(ranker) - wanted).abs().max() <= 1e-5 * wanted.std()


@has_products
def test_blocks_that_read_others(tmp_path, monkeypatch):
    """In bf16 by tiles of rows; in fp32 as transformers reads them, bit for bit."""
    folder = save_model(tmp_path, "Bert", "minilm")
    for dtype, bound in (("float32", 0.0), ("bfloat16", BOUND)):
        ranker = load_ranker(folder, ATTENDING, dtype=dtype)
        wanted = plainly(ranker, monkeypatch)
        assert (scores(ranker) - wanted).abs().max() <= bound * wanted.std()


@has_products
def test_what_is_no_plain_bert_runs_as_it_is(folder, monkeypatch):
    """An adapter in a layer's place, a bias that is missing, another activation."""

    class Adapter(torch.nn.Linear):
        def forward(self, input):
            return super().forward(input) * 1.5

    def put_adapter(model):
        model.encoder.layer[2].intermediate.dense.__class__ = Adapter

    def take_bias(model):
        model.encoder.layer[0].output.dense.bias = None

    def swap_activation(model):
        model.config.hidden_act = "relu"
        for layer in model.encoder.layer:
            layer.intermediate.intermediate_act_fn = torch.nn.ReLU()

    for change in (put_adapter, take_bias, swap_activation):
        ranker = load_ranker(folder, dtype="bfloat16")
        torch.nn.init.normal_(ranker.backbone.model.encoder.layer[0].output.dense.bias)
        before = scores(ranker)
        change(ranker.backbone.model)
        found = scores(ranker)
        assert torch.equal(found, plainly(ranker, monkeypatch))
        assert not torch.equal(found, before)
