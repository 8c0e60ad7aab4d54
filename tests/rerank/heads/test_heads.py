"""A head that attends to equal tokens is planted in a random model, and must be found."""

import json

import numpy as np
import pytest
import torch
from rerank_cases import PASSAGES, QUERY, load_ranker, save_model, scores
from transformers import AutoModelForCausalLM

from configs.command import run_command
from rerank import BlockRanker
from rerank.__main__ import make_parser
from rerank.heads.evidence import head_masses, load_every_head
from rerank.prompt.candidates import as_candidates
from rerank.settings.reading import read_ranker_settings

LAYER, HEAD, SIZE = 1, 2, 32
SETTINGS = """
backbone: decoder
layer: 3
query_attends: true
query_position: 4096
instruction: "Rank.\\n\\n"
passage: "{text}\\n"
query: "Query: {query}\\n"
signal: query
score: mass
"""
WORDS = ["pear", "rain", "cloud", "stone", "river", "glass", "horse", "candle", "winter", "garden"]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = save_model(
        tmp_path_factory.mktemp("planted"),
        "Llama",
        "smollm2",
        head_dim=SIZE,
        rope_parameters={"rope_type": "default", "rope_theta": 1e9},
    )
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        below = model.model.layers[0]  # leaves the embeddings as they are
        below.self_attn.o_proj.weight.zero_()
        below.mlp.down_proj.weight.zero_()
        attention = model.model.layers[LAYER].self_attn
        plane = torch.zeros(SIZE, 48)
        # Rotary pairs (i, i + 16) of the slowest rotations: the far query block still matches.
        slow = [*range(10, 16), *range(26, 32)]
        plane[slow] = torch.linalg.qr(torch.randn(48, len(slow)))[0].T
        attention.q_proj.weight[HEAD * SIZE : (HEAD + 1) * SIZE] = 4 * plane
        attention.k_proj.weight[SIZE : 2 * SIZE] = 4 * plane  # heads 2 and 3 share these keys
    model.save_pretrained(folder)
    (folder / "blockrank.yaml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def examples(planted):
    """Queries of two words; their relevant passage holds both, another one neither."""
    generator = np.random.default_rng(0)
    lines = []
    for number in range(8):
        own, *others = (list(words) for words in generator.permutation(WORDS).reshape(5, 2))
        passages = [{"id": str(n), "text": f"the {a} and the {b}"} for n, (a, b) in
                    enumerate([*others, own])]  # fmt: skip
        lines.append({"query": f"{own[1]} {own[0]}", "passages": passages, "relevant": {"4": 1}})
        lines[-1]["id"] = f"q{number}"
    path = planted / "examples.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_planted_head_is_found_and_ranks(planted, examples, tmp_path, capsys):
    options = ["--examples", str(examples), "--out", str(tmp_path), "--heads", "4"]
    command = ["select-heads", str(planted), *options, "--device", "cpu", "--json"]
    assert run_command(make_parser(), command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["heads"] == [[LAYER, HEAD]]
    assert report["nDCG@10 by number of heads, cross-validated"]["1"] == 1
    path = tmp_path / "blockrank.yaml"
    assert report["out"] == str(path)
    settings = read_ranker_settings(path)
    assert settings.heads == ((LAYER, HEAD),)
    assert settings.layer == LAYER
    assert "# examples: " in path.read_text()

    (planted / "blockrank.yaml").write_text(path.read_text())
    try:
        ranker = load_ranker(planted)
    finally:
        (planted / "blockrank.yaml").write_text(SETTINGS)
    assert len(ranker.backbone.model.layers) == LAYER + 1
    for line in examples.read_text().splitlines():
        example = json.loads(line)
        best, second, *_ = ranker.rerank(example["query"], example["passages"])
        assert best.id == "4"
        assert 1 > best.probability > second.probability > 0


def test_masses_of_heads_are_what_rankers_of_one_head_score(planted):
    backbone, base = load_every_head(str(planted), range(1, 3), device="cpu")
    assert base.heads is None
    assert base.layer == 3
    found = head_masses(backbone, QUERY, as_candidates(PASSAGES))
    assert found.shape == (8, 5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    for row in (0, 3, 6):
        (planted / "blockrank.yaml").write_text(
            f"{SETTINGS}heads: [{list(backbone.settings.heads[row])}]\n"
        )
        one = scores(BlockRanker.from_pretrained(str(planted), device="cpu"), QUERY, PASSAGES)
        np.testing.assert_allclose(found[row], one, atol=1e-6)
    (planted / "blockrank.yaml").write_text(SETTINGS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "2:9"], "layers 2:9 were asked for"),
        (["--layers", "3"], "--layers is '3', wanted LO:HI"),
        (["--heads", "0"], "--heads is 0, wanted at least 1"),
        (["--examples", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
    ],
)
def test_bad_input_is_one_sentence(planted, examples, tmp_path, arguments, message, capsys):
    options = ["--examples", str(examples), "--out", str(tmp_path), *arguments]
    assert run_command(make_parser(), ["select-heads", str(planted), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_encoder_is_refused():
    with pytest.raises(ValueError, match="it is an encoder, and heads are selected in decoders"):
        load_every_head("minilm")
