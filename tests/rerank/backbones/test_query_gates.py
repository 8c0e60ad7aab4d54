"""Passages that read the query through gates: closed, not a bit differs; open, it is BlockRank."""

from dataclasses import replace

import pytest
import torch
from rerank_cases import PASSAGES, QUERY, save_model, scores
from safetensors.torch import save_file
from training_cases import tiny_run

from rerank import BlockRanker
from rerank.backbones.loading import load_backbone
from rerank.backbones.query_gates import FILE, QueryGates, joint_layout
from rerank.examples.labelled import read_examples
from rerank.prompt.candidates import as_candidates
from rerank.prompt.packing import pack, tokenize
from rerank.prompt.template import fill
from rerank.settings.reading import read_ranker_settings
from rerank.settings.writing import write_settings
from rerank.training.order import Order, with_borrowed
from rerank.training.settings import LoraSettings
from rerank.training.trainer import train

OTHER = "pear"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("gated"), "Bert", "minilm", num_hidden_layers=3)


def _gated(base, gate=None):
    """A ranker with gates; all at `gate`, or closed as they start."""
    settings = replace(read_ranker_settings("rerank/minilm"), query_gates=True)
    ranker = BlockRanker(load_backbone(str(base), device="cpu", settings=settings))
    if gate is not None:
        with torch.no_grad():
            ranker.backbone.query_gates.gates.fill_(gate / 10)
    return ranker


def test_closed_gates_change_no_bit(base):
    plain = replace(_gated(base).settings, query_gates=False)
    without = BlockRanker(load_backbone(str(base), device="cpu", settings=plain))
    assert scores(_gated(base), QUERY, PASSAGES) == scores(without, QUERY, PASSAGES)
    assert scores(_gated(base, 0.5), QUERY, PASSAGES) != scores(without, QUERY, PASSAGES)


def test_an_open_gate_is_attention_to_query_and_passage_as_one(base):
    """Against transformers' own attention over the two texts in a row, under the mask that says so.

    Positions begin anew in the passage, and the query does not see it.
    """
    from transformers import AutoModel

    ranker = _gated(base, 1.0)
    backbone = ranker.backbone
    passage = as_candidates(PASSAGES)[:1]
    prompts = pack(
        tokenize(backbone.tokenizer, ranker.settings, [fill(ranker.settings, QUERY, passage)]),
        ranker.settings,
        pad_id=backbone.pad_id,
        query_position=None,
        device=backbone.device,
    )
    rows = joint_layout(prompts).rows
    query = prompts.layout.spans[1].passages[0].length
    with torch.no_grad():
        found = backbone.read(prompts).heads[0].k[rows, 0]
        model = AutoModel.from_pretrained(base, attn_implementation="eager")
        seen = torch.zeros(len(rows), len(rows))
        seen[:query, query:] = torch.finfo(torch.float32).min
        wanted = model(
            input_ids=prompts.input_ids[rows][None],
            position_ids=prompts.positions[rows][None],
            attention_mask=seen[None, None],
        ).last_hidden_state[0]
    wanted = torch.nn.functional.normalize(wanted, dim=-1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("one_thread")
def test_scores_are_the_same_bits_in_any_order_and_company(base):
    ranker = _gated(base, 0.7)
    wanted = ranker.scores(QUERY, PASSAGES)
    assert ranker.scores(QUERY, PASSAGES[::-1])[::-1] == wanted
    assert [ranker.scores(QUERY, [passage])[0] for passage in PASSAGES] == wanted
    together = ranker.scores_batch([OTHER, QUERY], [PASSAGES[:2], PASSAGES])
    assert together[1] == wanted
    assert together[0] == ranker.scores(OTHER, PASSAGES[:2])
    # Each query is read by its own passages alone.
    assert together[0] != together[1][:2]


def test_what_reads_the_query_is_not_cached(base):
    ranker = _gated(base)
    with pytest.raises(ValueError, match="they read it through query_gates"):
        ranker.cache(PASSAGES)
    with pytest.raises(ValueError, match="query_gates needs query_attends: false"):
        replace(ranker.settings, query_attends=True, score="mass", max_windows=1)


def test_gates_learn_and_are_shipped_beside_an_update(base, tmp_path):
    """A prompt's own passages and those borrowed of its neighbours teach; what comes out loads."""
    file = tmp_path / "gated.yaml"
    write_settings(file, replace(_gated(base).settings, base=str(base)))
    settings = tiny_run(
        tmp_path,
        ranker=str(file),
        lora=LoraSettings(rank=2, alpha=4),
        export="update",
        learning_rate=1e-2,
        passages=3,
        borrowed=1,
    )
    with pytest.raises(ValueError, match="run has no checkpoint of a run to export"):
        train(settings, export=tmp_path / "early")
    model = train(settings).model
    gates = QueryGates.load(model, 3, 4)
    assert gates.gates.abs().min() > 0
    ranker = BlockRanker.from_pretrained(str(model), device="cpu")
    assert ranker.settings.query_gates
    assert torch.equal(ranker.backbone.query_gates.gates, gates.gates)
    before = (tmp_path / "run" / "log.jsonl").read_bytes()
    (tmp_path / "run" / ".checkpoint-00000009.half").mkdir()  # one that is being written
    half = train(replace(settings, update_share=0.5), resume=True, export=tmp_path / "half").model
    torch.testing.assert_close(QueryGates.load(half, 3, 4).gates, gates.gates / 2)
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == before
    assert (tmp_path / "run" / ".checkpoint-00000009.half").is_dir()
    save_file({"gates": torch.zeros(9, 4)}, model / FILE)
    with pytest.raises(ValueError, match=rf"{FILE} holds .*wanted gates of \(3, 4\)"):
        BlockRanker.from_pretrained(str(model), device="cpu")


def test_borrowed_passages_are_the_relevant_ones_of_the_next_prompts(tmp_path):
    settings = tiny_run(tmp_path)
    examples = read_examples(settings.train[0].path)
    prompts = Order([examples], [1.0], passages=2, seed=0).prompts(0, 3)
    for number, prompt in enumerate(with_borrowed(prompts, 2)):
        own = prompts[number]
        assert prompt.passages[:2] == own.passages
        assert prompt.grades == own.grades + (0,) * (len(prompt.passages) - 2)
        others = [prompts[(number + step) % 3] for step in (1, 2)]
        right = {p.text for o in others for p, g in zip(o.passages, o.grades, strict=True) if g}
        assert {p.text for p in prompt.passages[2:]} == right - {p.text for p in own.passages}
    assert with_borrowed(prompts[:1], 5) == prompts[:1]
    with pytest.raises(ValueError, match="borrowed is 1, wanted at least 0, and 0 with in_batch"):
        replace(settings, in_batch=True, borrowed=1)
