"""Coverage: who is read to the end, what that saves, and how read and estimated scores join."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch
import yaml
from rerank_cases import (
    PASSAGES,
    QUERY,
    dense_mass,
    dense_run,
    load_ranker,
    packed,
    save_model,
    scores,
)

from configs.command import run_command
from configs.settings import read_mapping
from rerank import BlockRanker
from rerank.__main__ import make_parser
from rerank.backbones.block_selection import selecting
from rerank.backbones.decoder import DecoderBackbone
from rerank.prompt.candidates import as_candidates
from rerank.prompt.packing import BlockTokens
from rerank.prompt.template import fill
from rerank.scoring.coverage import covered_scores, joined
from rerank.scoring.coverage_target import Target
from rerank.scoring.scores import passage_scores

WORDS = ["faust", "pear", "goethe", "rain", "tragedy", "weimar", "novel", "wrote", "water"]
SEVERAL = {"heads": [[0, 3], [1, 1], [2, 0], [2, 3]], "head_weights": [1, 2, 3, 2]}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load_ranker(save_model(tmp_path_factory.mktemp("coverage"), "Llama", "smollm2"))


def _list(count, seed=7, prefix="p"):
    chance = random.Random(seed)
    return [
        {"id": f"{prefix}{i}", "text": " ".join(chance.choices(WORDS, k=chance.randint(2, 20)))}
        for i in range(count)
    ]


LIST = _list(12)


def _told(results):
    return [(r.id, r.score, r.stage) for r in results]


def _stages(results):
    return [r.stage for r in results]


def _with(ranker, **changes):
    """The same model with other settings."""
    backbone = ranker.backbone
    settings = replace(backbone.settings, **changes)
    return BlockRanker(DecoderBackbone(backbone.model, backbone.tokenizer, settings, 4))


def test_the_join_by_hand():
    """.7 was given to two passages, .2 to the best of the rest: .3 is shared out above two cuts."""
    found = joined([0.2, 0.4, 0.1, 0.3], [1, 3], [0.25, 0.75])
    assert found.scores == pytest.approx([0.2, 0.2 + 0.3 / 4, 0.1, 0.2 + 0.3 * 3 / 4])
    assert found.read == [False, True, False, True]
    assert joined([0.4, 0.6], [0, 1], [0.9, 0.1]).scores == [0.9, 0.1]


@pytest.mark.parametrize(
    ("family", "changes"),
    [("Llama", {}), ("Gemma3", SEVERAL | {"coverage_layer": 1}), ("Phi3", {})],
    ids=["Llama", "Gemma3 by heads of several layers", "Phi3"],
)
def test_scores_are_those_of_dense_attention_that_stops_seeing_passages(tmp_path, family, changes):
    """An independent reading: from the layer on a mask hides who was not chosen from the query."""
    folder = save_model(tmp_path, family, "smollm2")
    ranker = load_ranker(folder, yaml.safe_dump(read_mapping("rerank/decoder") | changes))
    texts = fill(ranker.settings, QUERY, as_candidates(PASSAGES))
    blocks = [texts.instruction, *texts.passages, texts.query]
    options = {"attends": True, "query_position": 8192}
    full = dense_run(folder, blocks, **options)
    signals = full.blocks[-1][-2:]
    heads = [1] if changes else slice(None)
    estimates = dense_mass(full, 1, signals, heads)
    chosen = sorted(estimates.topk(3).indices.tolist())
    left = set(range(5)) - set(chosen)
    run = dense_run(folder, blocks, **options, unseen=(1, {place + 1 for place in left}))
    run = replace(run, blocks=[run.blocks[0], *(run.blocks[n + 1] for n in chosen), run.blocks[-1]])
    masses = dense_mass(run, 2, signals)
    if changes:
        masses = sum(
            weight / 8 * dense_mass(run, layer, signals, [head])
            for (layer, head), weight in zip(SEVERAL["heads"], SEVERAL["head_weights"], strict=True)
        )
    cut = estimates[list(left)].max()
    wanted = estimates.clone()
    wanted[chosen] = cut + (estimates[chosen].sum() - 3 * cut) * masses
    found = ranker.rerank(QUERY, PASSAGES, coverage_passages=3)
    assert sorted(r.original_rank - 1 for r in found if r.stage == "read") == chosen
    in_order = sorted(found, key=lambda r: r.original_rank)
    torch.testing.assert_close(
        torch.tensor([r.score for r in in_order]).double(), wanted, rtol=0, atol=1e-5
    )
    assert masses.max() - masses.min() > 0.01


@pytest.mark.parametrize("options", [{"coverage": 1}, {"coverage": 1.0}, {"coverage_passages": 12}])
def test_full_coverage_is_the_full_read_bit_for_bit(llama, options):
    assert llama.rerank(QUERY, LIST, **options) == llama.rerank(QUERY, LIST)
    batch = llama.rerank_batch([QUERY, "pear"], [LIST, LIST[:5]], **options)
    assert batch == llama.rerank_batch([QUERY, "pear"], [LIST, LIST[:5]])


def test_a_share_is_reached_with_the_fewest(llama):
    prompts = packed(llama, QUERY, LIST)
    with torch.inference_mode():
        (estimates,) = passage_scores(
            llama.backbone.read_estimate(prompts), prompts, llama.settings
        )
    for share in (0.2, 0.5, 0.9):
        found = llama.rerank(QUERY, LIST, coverage=share)
        read = [r.original_rank - 1 for r in found if r.stage == "read"]
        rest = [place for place in range(12) if place not in read]
        assert 0 < len(read) < 12
        assert _stages(found) == ["read"] * len(read) + ["estimate"] * len(rest)
        assert estimates[read].sum() >= share > estimates[read].sum() - estimates[read].min()
        assert estimates[read].min() > estimates[rest].max()
        given = sorted(found[len(read) :], key=lambda r: r.original_rank)
        assert [r.score for r in given] == pytest.approx(estimates[rest].tolist())
        assert math.fsum(r.score for r in found) == pytest.approx(1, abs=1e-6)
        assert llama.rerank(QUERY, LIST, 3, coverage=share) == found[:3]


def test_at_the_lowest_layer_it_is_the_read_of_a_list_of_the_chosen(llama):
    """Nothing was computed of the others but embeddings: the order is that of the list alone."""
    ranker = _with(llama, coverage_layer=0)
    found = ranker.rerank(QUERY, LIST, coverage=0.6)
    read = [r for r in found if r.stage == "read"]
    alone = dict(
        zip((r.id for r in read), scores(llama, QUERY, [r.passage for r in read]), strict=True)
    )
    cut = found[len(read)].score
    above = math.fsum(r.score - cut for r in read)
    assert 2 < len(read) < 12
    for result in read:
        assert (result.score - cut) / above == pytest.approx(alone[result.id], abs=1e-6)


def test_no_order_company_or_run_changes_a_bit(llama):
    queries = [QUERY, "pear", "rain in weimar"]
    lists = [LIST, _list(5, 8, "q"), _list(7, 9, "r")]
    alone = [
        _told(llama.rerank(q, some, coverage=0.6)) for q, some in zip(queries, lists, strict=True)
    ]
    assert all({"read", "estimate"} == {stage for *_, stage in told} for told in alone)
    chance = random.Random(3)
    for order in ((0, 1, 2), (2, 0, 1)):
        shuffled = [chance.sample(lists[n], len(lists[n])) for n in order]
        together = llama.rerank_batch([queries[n] for n in order], shuffled, coverage=0.6)
        assert [_told(results) for results in together] == [alone[n] for n in order]


def test_the_layers_above_run_with_the_chosen_alone(llama):
    rows = []
    hooks = [
        layer.register_forward_hook(lambda _, args, __: rows.append(args[0].shape[1]))
        for layer in llama.backbone.model.layers[:2]
    ]
    try:
        found = llama.rerank(QUERY, LIST, coverage=0.4)
        batch = list(rows)
        llama.rerank(QUERY, LIST)
    finally:
        for hook in hooks:
            hook.remove()
    (prompt,) = llama.prompts([QUERY], [as_candidates(LIST)])
    unread = [r.original_rank - 1 for r in found if r.stage == "estimate"]
    dropped = sum(len(prompt.passages[place].ids) for place in unread)
    assert dropped > prompt.num_tokens / 4
    assert batch == [prompt.num_tokens, prompt.num_tokens - dropped]
    assert rows[2:] == [prompt.num_tokens] * 2  # and nothing of it is left behind
    assert not any(layer._forward_pre_hooks for layer in llama.backbone.model.layers)


def test_equal_passages_stand_or_fall_together(llama):
    passages = [*LIST, *({"id": id_, "text": LIST[0]["text"]} for id_ in "cab")]
    for count in (1, 4, 8, 12):
        found = [
            r
            for r in llama.rerank(QUERY, passages, coverage_passages=count)
            if r.id in ("a", "b", "c", "p0")
        ]
        assert [r.id for r in found] == ["a", "b", "c", "p0"]
        assert len({(r.score, r.stage) for r in found}) == 1


def test_one_candidate_and_one_without_a_token(llama):
    assert _told(llama.rerank(QUERY, LIST[:1], coverage=0.1)) == [("p0", 1.0, "read")]
    (prompt,) = llama.prompts([QUERY], [as_candidates(LIST[:3])])
    nothing = BlockTokens([], [], [])
    prompt = prompt._replace(passages=[nothing, *prompt.passages, nothing])
    with torch.inference_mode():
        for target in (Target(0.5, None), Target(None, 2)):
            (found,) = covered_scores(llama.backbone, [prompt], target, 10**4, llama._read)
            assert found.scores[0] == found.scores[-1] == 0
            assert found.read == [False, *found.read[1:-1], False]
            assert sum(found.scores) == pytest.approx(1)


def test_a_list_that_no_prompt_holds(llama):
    passages = _list(40)
    short = BlockRanker(llama.backbone, max_tokens=200)
    found = short.rerank(QUERY, passages, coverage=0.1)
    read = [r for r in found if r.stage == "read"]
    assert 1 < len(read) < 40
    assert _stages(found) == ["read"] * len(read) + ["estimate"] * (40 - len(read))
    assert math.fsum(r.score for r in found) == pytest.approx(1, abs=1e-5)
    assert [r.id for r in llama.rerank(QUERY, [r.passage for r in read])] == [r.id for r in read]
    for seed in (1, 2):
        shuffled = random.Random(seed).sample(passages, 40)
        assert _told(short.rerank(QUERY, shuffled, coverage=0.1)) == _told(found)
    # Longer and shorter lists in one call.
    batch = short.rerank_batch([QUERY, QUERY], [passages, LIST[:3]], coverage=0.1)
    assert [_told(results) for results in batch] == [
        _told(found),
        _told(short.rerank(QUERY, LIST[:3], coverage=0.1)),
    ]
    whole = short.rerank(QUERY, passages, coverage_passages=40)
    assert whole == short.rerank(QUERY, passages)


def test_below_a_cascade(llama):
    first = [float(n) for n in range(12)]
    found = llama.rerank(QUERY, LIST, first_scores=first, budget_tokens=250, coverage=0.5)
    best = [r.passage for r in found if r.stage != "first"]
    alone = llama.rerank(QUERY, best, coverage=0.5)
    assert _told(found[: len(best)]) == _told(alone)
    assert set(_stages(found)) == {"read", "estimate", "first"}
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)
    assert [LIST[r.original_rank - 1] for r in found] == [r.passage for r in found]


def test_only_what_was_read_has_a_probability(llama):
    ranker = _with(llama, probability=(2.0, 0.5))
    found = ranker.rerank(QUERY, LIST, coverage=0.5)
    assert {(r.stage, r.probability is None) for r in found} == {
        ("read", False),
        ("estimate", True),
    }


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"coverage": 0}, ValueError, "coverage is 0, wanted above 0 and at most 1"),
        ({"coverage": 1.5}, ValueError, "coverage is 1.5, wanted"),
        ({"coverage": float("nan")}, ValueError, "coverage is nan, wanted"),
        ({"coverage": "0.5"}, TypeError, "coverage is '0.5', wanted a number"),
        ({"coverage": True}, TypeError, "coverage is True, wanted a number"),
        ({"coverage_passages": 0}, ValueError, "coverage_passages is 0"),
        ({"coverage_passages": 2.0}, TypeError, "coverage_passages is 2.0"),
        ({"coverage": 0.5, "coverage_passages": 2}, ValueError, "give one of them"),
    ],
)
def test_bad_targets_are_refused_in_a_sentence(llama, options, error, message):
    with pytest.raises(error, match=message):
        llama.rerank(QUERY, LIST, **options)


def test_who_cannot_cover_says_so(llama, minilm_ranker):
    with pytest.raises(ValueError, match=r"^coverage .* is an encoder: leave it out"):
        minilm_ranker.rerank(QUERY, LIST, coverage=0.5)
    for changes, message in [
        ({"query_attends": False}, "query_attends: false"),
        ({"calibration": "content_free"}, "calibration content_free makes differences"),
        ({"coverage_layer": 2}, "which is 2: layer 2 is none; set coverage_layer"),
        ({"layer": 0}, "which is 0: layer 0 is none"),
    ]:
        with pytest.raises(ValueError, match=message):
            _with(llama, **changes).rerank(QUERY, LIST, coverage=0.5)
    elsewhere = torch.nn.Embedding(1, 1)
    with pytest.raises(ValueError, match="Embedding has no `layers`"), selecting(elsewhere, None):
        pass
    cache = minilm_ranker.cache(["A pear."])
    with pytest.raises(ValueError, match="coverage with a cache"):
        minilm_ranker.rerank(QUERY, ["A pear."], cache=cache, coverage=0.5)


def test_the_command_line_marks_estimates(llama, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(BlockRanker, "from_pretrained", lambda *_: llama)
    passages = tmp_path / "passages.jsonl"
    passages.write_text("".join(json.dumps(each) + "\n" for each in LIST))

    def run(*options):
        code = run_command(make_parser(), ["rank", QUERY, "--passages", str(passages), *options])
        return code, *capsys.readouterr()

    wanted = llama.rerank(QUERY, LIST, coverage_passages=4)
    _, out, _ = run("--coverage-passages", "4")
    marks = [line.split()[1].startswith("~") for line in out.splitlines()]
    assert marks == [False] * 4 + [True] * 8
    _, out, _ = run("--coverage-passages", "4", "--json")
    found = json.loads(out)["results"]
    assert [(r["id"], r["score"], r.get("stage", "read")) for r in found] == _told(wanted)
    assert run("--coverage", "1", "--json") == run("--json")
    for options, message in [
        (("--coverage", "2"), "coverage is 2.0, wanted above 0 and at most 1"),
        (("--coverage", "0.5", "--mode", "decode"), "leave --mode decode out"),
        (("--coverage", "0.5", "--cache", str(tmp_path)), "--coverage with --cache"),
    ]:
        code, _, err = run(*options)
        assert code == 2
        assert message in err
        assert len(err.splitlines()) == 1
