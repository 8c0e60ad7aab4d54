"""An encoder trained for a corpus: what comes out, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from retrieval.encoder import Encoder
from retrieval.training import run as training
from retrieval.training.fit import check_installed, fit
from retrieval.training.run import Made, PairFile, train_encoder
from retrieval.training.settings import TrainSettings

pytest.importorskip("datasets", reason="the extra `train` is not installed")
PLANTS = ("pears", "beans", "roses", "leeks", "plums", "chard", "maize", "thyme")
PLACES = ("pots", "beds", "fields", "walls", "sand")


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    """40 passages with titles."""
    path = tmp_path_factory.mktemp("garden") / "corpus.jsonl"
    lines = [
        {
            "_id": f"{plant}-{place}",
            "title": f"How to grow {plant} in {place}",
            "text": f"The {plant} like {place} in May. Water {plant} in {place} now and then.",
        }
        for plant in PLANTS
        for place in PLACES
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def settings(tiny_encoder):
    return TrainSettings(
        encoder=str(tiny_encoder), held_out=0.3, steps=3, batch_size=8, rate=1e-3, mini_batch=4
    )


@pytest.fixture(scope="module")
def trained(garden, settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "encoder"
    return train_encoder(str(garden), out, settings, Made(("title",)), keep_worse=True)


def test_the_folder_is_an_encoder_and_tells_what_made_it(trained, tiny_encoder, garden):
    encoder = Encoder.load(trained.out, device="cpu")
    assert encoder.record.fingerprint != Encoder.load(str(tiny_encoder)).record.fingerprint
    assert (trained.training_pairs, trained.held_out_pairs, trained.steps) == (28, 12, 3)
    record = json.loads((Path(trained.out) / training.RECORD).read_text())
    assert record["corpus"] == str(garden)
    assert record["settings"]["rate"] == 1e-3
    assert record["gains"]["nDCG@10"]["gain"] == trained.gains["nDCG@10"].gain
    assert record["passages"] == 40


def test_the_same_run_gives_the_same_bytes(trained, garden, settings, tmp_path):
    again = train_encoder(
        str(garden), tmp_path / "again", settings, Made(("title",)), keep_worse=True
    )
    first, second = (Path(x.out) / "model.safetensors" for x in (trained, again))
    assert first.read_bytes() == second.read_bytes()
    assert again.gains == trained.gains


def test_prompts_are_read_before_texts(settings):
    """As if they were spelled there, which is what an index does."""
    texts = {"query": [f"sow {p}?" for p in PLANTS], "passage": [f"{p} in May" for p in PLANTS]}
    prompts = {"query": "asked: ", "passage": "read: "}
    spelled = {name: [prompts[name] + text for text in column] for name, column in texts.items()}
    found = []
    for columns, given in ((texts, prompts), (spelled, {})):
        model = Encoder.load(settings.encoder, device="cpu").model
        assert fit(model, columns, given, settings) == 3
        found.append(model.state_dict())
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_lora_changes_weights_by_its_rank_and_leaves_no_adapter(garden, settings, tmp_path):
    lora = TrainSettings(**{**vars(settings), "lora": 2, "negatives": 0})
    result = train_encoder(str(garden), tmp_path / "lora", lora, Made(("title",)), keep_worse=True)
    before = load_file(Path(settings.encoder) / "model.safetensors")
    after = load_file(Path(result.out) / "model.safetensors")
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed
    for name in changed:
        assert name.endswith(".weight")
        difference = (after[name] - before[name]).double()
        assert torch.linalg.matrix_rank(difference, rtol=1e-3) <= 2, name


def test_a_worse_model_is_refused_unless_asked_for(
    garden, settings, tmp_path, monkeypatch, run_module
):
    def spoil(model, columns, prompts, settings):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            model.transformers_model.embeddings.LayerNorm.bias[0] = 1
        return 1

    monkeypatch.setattr(training, "fit", spoil)
    monkeypatch.setattr("retrieval.encoder._fingerprint", lambda model: "spoiled")
    options = ("--encoder", settings.encoder, "--held-out", 0.3, "--tasks", "title", "--json")
    out = tmp_path / "spoiled"
    refused = run_module("retrieval.train", garden, "--out", out, *options)
    assert refused.returncode == 1
    assert "refused: the trained model is worse on the held-out queries" in refused.stderr
    result = json.loads(refused.stdout)
    assert result["out"] is None
    assert result["gains"]["nDCG@10"]["gain"] < 0
    assert not out.exists()
    kept = run_module("retrieval.train", garden, "--out", out, *options, "--keep-worse")
    assert kept.returncode == 0
    assert (out / "modules.json").is_file()


def test_negatives_are_no_held_out_passage_and_never_the_querys_own(
    garden, settings, tmp_path, monkeypatch
):
    seen = {}

    def take(model, columns, prompts, settings):
        seen.update(columns=columns, prompts=prompts)
        return 0

    monkeypatch.setattr(training, "fit", take)
    pairs = tmp_path / "pairs.jsonl"
    lines = [json.loads(line) for line in garden.read_text().splitlines()]
    pairs.write_text(
        "".join(json.dumps({"query": d["title"], "id": d["_id"]}) + "\n" for d in lines)
    )
    two = TrainSettings(**{**vars(settings), "negatives": 2})
    result = train_encoder(str(garden), tmp_path / "out", two, PairFile(pairs), keep_worse=True)
    columns = seen["columns"]
    assert list(columns) == ["query", "passage", "negative_1", "negative_2"]
    assert len(columns["query"]) == result.training_pairs
    texts = {f"{d['title']}\n{d['text']}" for d in lines}
    held_out = texts - set(columns["passage"])
    assert len(held_out) == result.held_out_pairs
    for name in ("negative_1", "negative_2"):
        assert not set(columns[name]) & held_out
        assert all(a != b for a, b in zip(columns[name], columns["passage"], strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--queries", "q.tsv"), "--queries and --qrels go together"),
        (("--pairs", "p.jsonl", "--tasks", "title"), "three sources of pairs; give one"),
        (("--tasks", "link"), "task 'link' is not one of"),
        (("--batch-size", "1"), "batch_size is 1, wanted 2 or more"),
        (("--rate", "0"), "rate is 0.0, wanted above 0"),
        (("--held-out", "1"), "the held-out share is 1.0, wanted above 0 and below 1"),
    ],
)
def test_options_that_make_no_sense(garden, tmp_path, run_module, options, message):
    found = run_module("retrieval.train", garden, "--out", tmp_path / "out", *options)
    assert found.returncode == 2
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_what_is_there_is_not_overwritten(garden, trained, run_module):
    found = run_module("retrieval.train", garden, "--out", trained.out)
    assert found.returncode == 2
    assert "exists; remove it, or name another --out" in found.stderr


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else name)
    check_installed(lora=False)
    with pytest.raises(ValueError, match=r"peft is not installed; .* install 'blockseek\[train\]'"):
        check_installed(lora=True)
