"""Decoders in fp8: which layers, how many bytes, the same bits in any company, caches apart."""

import importlib
import json
import random

import pytest
import torch
from rerank_cases import PASSAGES, QUERY, load_ranker, save_model

from configs.command import run_command
from kernels import Fp8Linear
from rerank import BlockRanker, PassageCache
from rerank.__main__ import make_parser
from rerank.answers.decoding import AnswerDecoder
from rerank.backbones.loading import load_backbone
from rerank.heads.evidence import load_every_head
from rerank.prompt.candidates import as_candidates

# A wide feed-forward layer: torch adds up so long a sum in parts, by the number of rows.
SIZES = {"head_dim": 16, "intermediate_size": 1536}
SETTINGS = """
backbone: decoder
query_in_instruction: false
instruction: "Rank.\\n"
passage: "{text}\\n"
query: "{query}?"
query_attends: true
signal: last
score: mass
heads: [[1, 0], [2, 3]]
"""
WORDS = ["faust", "pear", "goethe", "rain", "tragedy", "weimar", "novel", "wrote", "water", "play"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = save_model(tmp_path_factory.mktemp("llama"), "Llama", "smollm2", **SIZES)
    (made / "blockrank.yaml").write_text(SETTINGS)
    return made


@pytest.fixture(scope="module")
def ranker(folder):
    return load_ranker(folder, dtype="fp8")


def modules(model, kind):
    return {name for name, module in model.named_modules() if isinstance(module, kind)}


def test_all_linear_layers_but_the_queries_and_keys_that_score(ranker):
    model = ranker.backbone.model
    kept = modules(model, torch.nn.Linear)
    assert kept == {f"layers.{n}.self_attn.{x}_proj" for n in (1, 2) for x in "qk"}
    attention, feed_forward = ("q", "k", "v", "o"), ("gate", "up", "down")
    small = {f"layers.0.self_attn.{x}_proj" for x in attention}
    small |= {f"layers.1.self_attn.{x}_proj" for x in "vo"}
    small |= {f"layers.{n}.mlp.{x}_proj" for n in (0, 1) for x in feed_forward}
    assert modules(model, Fp8Linear) == small


def test_a_weight_is_a_byte_and_all_else_bfloat16_but_the_scales(ranker):
    small = {f"{name}.weight" for name in modules(ranker.backbone.model, Fp8Linear)}
    for name, tensor in ranker.backbone.model.state_dict().items():
        scale = name.endswith(".scale")
        assert tensor.element_size() == (1 if name in small else 4 if scale else 2), name
        assert scale or name in small or tensor.dtype == torch.bfloat16
    assert ranker.backbone.precision == "fp8"


def test_fused_projections_of_a_scoring_layer_stay_with_its_whole_attention(tmp_path):
    backbone = load_ranker(save_model(tmp_path, "Phi3", "smollm2"), dtype="fp8").backbone
    small, last = modules(backbone.model, Fp8Linear), backbone.last_layer
    assert {f"layers.{n}.self_attn.qkv_proj" for n in range(last)} <= small
    assert f"layers.{last}.self_attn.qkv_proj" in modules(backbone.model, torch.nn.Linear)


def test_every_layer_that_heads_are_chosen_from_keeps_its_queries_and_keys(folder):
    backbone, _ = load_every_head(str(folder), device="cpu", dtype="fp8")
    kept = modules(backbone.model, torch.nn.Linear)
    assert kept == {f"layers.{n}.self_attn.{x}_proj" for n in range(4) for x in "qk"}


@pytest.mark.parametrize("threads", [1, 2])
def test_orders_batches_and_splits_change_no_bit(ranker, threads):
    chance = random.Random(5)

    def text():
        return " ".join(chance.choices(WORDS, k=chance.randint(1, 30)))

    queries = [text() for _ in range(3)]
    lists = [[{"id": f"{n}", "text": text()} for n in range(count)] for count in (1, 9, 5)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone = [ranker.scores(*pair) for pair in zip(queries, lists, strict=True)]
        assert len({score for scores in alone for score in scores}) > 10
        for query, passages, wanted in zip(queries, lists, alone, strict=True):
            order = chance.sample(range(len(passages)), len(passages))
            shuffled = ranker.scores(query, [passages[i] for i in order])
            assert shuffled == [wanted[i] for i in order]
        assert ranker.scores_batch(queries[::-1], lists[::-1]) == alone[::-1]
        # Every request has a pass of its own.
        prompts = ranker.prompts(queries, list(map(as_candidates, lists)))
        longest = max(prompt.num_tokens for prompt in prompts)
        split = BlockRanker(ranker.backbone, max_tokens=longest)
        assert split.scores_batch(queries, lists) == alone
    finally:
        torch.set_num_threads(before)


def test_a_cache_in_32_bits_gives_the_same_scores(ranker):
    cache = ranker.cache(PASSAGES, 32)
    assert cache.scores(QUERY, cache.ids) == ranker.scores(QUERY, PASSAGES)


def test_caches_of_fp8_and_of_bfloat16_are_kept_apart(folder, ranker, tmp_path):
    half = load_ranker(folder, dtype="bfloat16")
    PassageCache.build(ranker, PASSAGES, tmp_path / "fp8")
    PassageCache.build(half, PASSAGES, tmp_path / "half")
    assert len(PassageCache.open(ranker, tmp_path / "fp8", verify=True)) == len(PASSAGES)
    with pytest.raises(ValueError, match="was made in fp8, the reranker runs in bfloat16"):
        PassageCache.open(half, tmp_path / "fp8")
    with pytest.raises(ValueError, match="was made in bfloat16, the reranker runs in fp8"):
        PassageCache.open(ranker, tmp_path / "half")
    manifest = tmp_path / "fp8" / "manifest.json"
    values = json.loads(manifest.read_text())
    states = next(iter(values["identity"]["tokens"].values()))
    states[-1] = "fp8"
    manifest.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"dtype is 'fp8', wanted float32, bfloat16, float16\)"):
        PassageCache.open(ranker, tmp_path / "fp8")


def test_answers_are_decoded_in_fp8_with_the_head_as_it_was(folder):
    decoder = AnswerDecoder.from_pretrained(str(folder), "cpu", "fp8")
    assert modules(decoder.model, torch.nn.Linear) == {"lm_head"}
    assert len(modules(decoder.model, Fp8Linear)) == 4 * 7
    found = torch.tensor(decoder.scores(QUERY, PASSAGES)).exp()
    assert found.sum().item() == pytest.approx(1, abs=1e-5)


def test_the_command_ranks_in_fp8_as_the_call_does(folder, ranker, tmp_path, capsys):
    texts = [passage if isinstance(passage, str) else passage["text"] for passage in PASSAGES]
    passages = tmp_path / "passages"
    passages.write_text("\n".join(texts))
    command = ["rank", QUERY, "--passages", str(passages), "--device", "cpu", "--json"]
    assert run_command(make_parser(), [*command, "--model", str(folder), "--dtype", "fp8"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    wanted = ranker.rerank(QUERY, texts)
    assert [each["score"] for each in found] == [each.score for each in wanted]
    assert run_command(make_parser(), [*command, "--model", "minilm", "--dtype", "fp8"]) == 2
    told = capsys.readouterr().err
    assert "dtype 'fp8' is for decoders, and it is an encoder: take bfloat16" in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("dtype", ["fp9", "float8_e4m3fn", "FP8"])
def test_other_names_are_refused(folder, dtype):
    with pytest.raises(
        ValueError, match=f"'{dtype}', wanted auto, float32, bfloat16, float16 or fp8"
    ):
        load_ranker(folder, dtype=dtype)


def test_an_older_gpu_is_told_what_it_lacks(folder, monkeypatch):
    layers = importlib.import_module("kernels.fp8_linear")
    monkeypatch.setattr(layers, "_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A chip")
    with pytest.raises(ValueError, match=r"'fp8' needs .*, and A chip has 8\.0: take bfloat16"):
        load_backbone(str(folder), device="cuda", dtype="fp8")


def test_nothing_but_its_name_asks_for_it(folder):
    assert load_ranker(folder).backbone.precision == "float32"
    assert load_ranker(folder, dtype="bfloat16").backbone.precision == "bfloat16"
