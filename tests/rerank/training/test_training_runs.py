"""Whole runs on tiny models: they learn, resume bit for bit, and leave a folder that ranks."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from rerank_cases import PASSAGES, QUERY, load_ranker, scores
from safetensors.torch import load_file
from training_cases import SUBJECTS, same_bits, tiny_run, weights_of, write_examples

from configs.command import run_command
from rerank import BlockRanker
from rerank.__main__ import make_parser
from rerank.backbones.loading import load_backbone
from rerank.examples.labelled import read_examples
from rerank.training.objective import Objective
from rerank.training.order import Order
from rerank.training.passes import make_pass
from rerank.training.run_folder import read_log
from rerank.training.settings import LoraSettings, Source
from rerank.training.trainer import train
from rerank.training.validation import mean_ndcg

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Bert", {"in_batch": True, "prompts_per_pass": 4}),
        ("Llama", {"lora": LoraSettings(rank=4, alpha=8), "learning_rate": 1e-2}),
        ("Llama", {"loss": {"info_nce": 0.1, "language_model": 1.0}}),
    ],
)
def test_a_run_learns_and_its_folder_ranks(tmp_path, family, changes):
    settings = tiny_run(tmp_path, family, **({"steps": 12} | changes))
    found = train(settings)
    log = read_log(settings.out)
    assert [line["step"] for line in log] == list(range(1, 13))
    assert log[-1]["total"] < 0.8 * log[0]["total"]
    assert found.model is not None
    trained = BlockRanker.from_pretrained(str(found.model), device="cpu")
    start = load_ranker(tmp_path / "base")
    assert scores(trained, QUERY, PASSAGES) != scores(start, QUERY, PASSAGES)
    examples = read_examples(settings.train[0].path)
    assert mean_ndcg(trained, examples) > mean_ndcg(start, examples)
    assert json.loads((found.model / "training.json").read_text())["kept_step"] == 12


@pytest.mark.parametrize("family", ["Bert", "Llama"])
def test_what_is_not_trained_keeps_its_bits(tmp_path, family):
    """Layers above the scoring one are saved as they were; so is what is frozen."""
    settings = tiny_run(tmp_path, family, freeze=("embed",), steps=2)
    train(settings)
    before = weights_of(tmp_path / "base")
    after = weights_of(tmp_path / "run" / "model")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any("embed" in name for name in changed)
    if family == "Llama":
        # Layer 1 of 3 scores: of it only queries and keys, and the norm in front of them.
        assert not any("layers.2" in name or "lm_head" in name for name in changed)
        last = {name.split("layers.1.")[1] for name in changed if "layers.1." in name}
        assert last == {
            "input_layernorm.weight",
            "self_attn.q_proj.weight",
            "self_attn.k_proj.weight",
        }


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Bert", {"in_batch": True, "loss": {"start": 0.1}}),
        ("Llama", {"lora": LoraSettings(rank=2, alpha=4), "loss": {"distillation": 1.0}}),
    ],
)
def test_a_run_in_pieces_gives_the_same_bits(tmp_path, family, changes):
    changes |= {"validation": str(write_examples(tmp_path / "valid.jsonl", SUBJECTS[:3]))}
    settings = tiny_run(tmp_path, family, validate_every=3, **changes)
    train(settings)
    pieces = replace(settings, out=str(tmp_path / "pieces"))
    found = train(pieces, minutes=0)
    runs = 1
    while found.model is None:
        assert found.progress.step == runs
        found = train(pieces, resume=True, minutes=0)
        runs += 1
    assert runs == settings.steps
    assert same_bits(weights_of(tmp_path / "run" / "model"), weights_of(found.model))

    def reports(folder):
        return [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(folder)]

    assert reports(pieces.out) == reports(settings.out)
    assert train(pieces, resume=True).model == found.model  # nothing is left to do


_KILLED_AT_STEP_8 = """
import os, signal, sys
from configs.command import run_command
from rerank.__main__ import make_parser
from rerank.training import trainer
save, add = trainer._Run._save, trainer.Log.add
def save_every_third(run):
    if run.progress.step % 3 == 0:
        save(run)
def add_and_die(log, **values):
    add(log, **values)
    if values["step"] == 8:
        os.kill(os.getpid(), signal.SIGKILL)
trainer._Run._save, trainer.Log.add = save_every_third, add_and_die
run_command(make_parser(), sys.argv[1:])
"""


def test_a_killed_run_gives_the_same_bits(tmp_path, run_module):
    """Killed between checkpoints, where the log and the weights in memory are ahead of the disk."""
    settings = tiny_run(tmp_path, steps=12, freeze=("embed",))
    train(settings)
    config = tmp_path / "run.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "model": settings.model,
                "device": "cpu",
                "passages": 4,
                "prompts_per_step": 4,
                "prompts_per_pass": 2,
                "steps": 12,
                "learning_rate": 1e-3,
                "checkpoint_minutes": 0,
                "freeze": ["embed"],
            }
        )
    )
    out = tmp_path / "killed"
    command = ["train", "--config", config, "--out", out, "--train", settings.train[0].path]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_AT_STEP_8, *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in out.glob("*checkpoint-*")] == ["checkpoint-00000006"]
    assert [line["step"] for line in read_log(out)] == list(range(1, 9))
    (out / ".checkpoint-00000099.half").mkdir()  # the kill may have come while one was written
    found = run_module("rerank", *command, "--resume", "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["step"] == 12
    assert same_bits(weights_of(tmp_path / "run" / "model"), weights_of(out / "model"))
    assert [line["step"] for line in read_log(out)] == list(range(1, 13))
    assert len(list(out.glob("*checkpoint-*"))) == 1


def test_in_batch_scores_are_those_of_every_query_over_all_passages(tmp_path):
    settings = tiny_run(tmp_path, in_batch=True)
    backbone = load_backbone(settings.model, device="cpu")
    examples = read_examples(settings.train[0].path)
    prompts = Order([examples], [1.0], passages=3, seed=0).prompts(0, 3)
    batch = make_pass(prompts, backbone, settings)
    objective = Objective(backbone, settings)
    with torch.no_grad():
        found = objective._scores(backbone.read(batch.packed), batch)
    union = list({passage.text: passage for prompt in prompts for passage in prompt.passages})
    ranker = BlockRanker(backbone)
    for prompt, values, grades in zip(prompts, found, batch.grades, strict=True):
        wanted = scores(ranker, prompt.query, union)
        torch.testing.assert_close(values, torch.tensor(wanted), rtol=0, atol=1e-5)
        relevant = {p.text for p, g in zip(prompt.passages, prompt.grades, strict=True) if g}
        assert [bool(grade) for grade in grades] == [text in relevant for text in union]


def test_an_update_alone_ranks_as_the_whole_model_does(tmp_path):
    settings = tiny_run(tmp_path, lora=LoraSettings(rank=4, alpha=8), learning_rate=1e-2)
    whole = train(settings).model
    update = train(replace(settings, out=str(tmp_path / "small"), export="update")).model
    assert not (update / "model.safetensors").exists()
    found = scores(BlockRanker.from_pretrained(str(update), device="cpu"), QUERY, PASSAGES)
    wanted = scores(BlockRanker.from_pretrained(str(whole), device="cpu"), QUERY, PASSAGES)
    start = scores(BlockRanker.from_pretrained(settings.model, device="cpu"), QUERY, PASSAGES)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=0, atol=2e-3)
    assert (torch.tensor(start) - torch.tensor(wanted)).abs().max() > 1e-2


def test_the_pull_to_the_start_holds_the_weights_back(tmp_path):
    moved = []
    for weight in (0.0, 100.0):
        folder = tmp_path / str(weight)
        folder.mkdir()
        settings = tiny_run(folder, loss={"start": weight}, steps=4)
        train(settings)
        before, after = weights_of(folder / "base"), weights_of(folder / "run" / "model")
        moved.append(math.sqrt(sum(float((after[n] - before[n]).square().sum()) for n in before)))
    assert moved[1] < 0.5 * moved[0]


def test_the_best_validation_is_what_is_kept(tmp_path):
    """A rate that ruins the model: what comes out is not what the last step left."""
    validation = str(write_examples(tmp_path / "valid.jsonl"))
    settings = tiny_run(tmp_path, validation=validation, learning_rate=5.0, validate_every=2)
    found = train(settings)
    lines = read_log(settings.out)
    values = {line["step"]: line["validation_ndcg"] for line in lines if "validation_ndcg" in line}
    assert list(values) == [0, 2, 4]
    best = max(values, key=values.__getitem__)
    assert best < 4
    assert found.progress.best_step == best
    assert found.progress.best_value == pytest.approx(values[best], abs=1e-6)
    kept = BlockRanker.from_pretrained(str(found.model), device="cpu")
    assert mean_ndcg(kept, read_examples(validation)) == pytest.approx(values[best], abs=1e-6)


def test_low_precision_trains(tmp_path):
    """Rotary positions leave queries and keys in fp32 beside values in bf16."""
    settings = tiny_run(tmp_path, "Llama", precision="bfloat16", gradient_checkpointing=True)
    train(settings)
    exact = train(replace(settings, out=str(tmp_path / "exact"), precision="float32"))
    low, high = (read_log(folder) for folder in (settings.out, tmp_path / "exact"))
    assert exact.model is not None
    for one, other in zip(low, high, strict=True):
        assert one["total"] == pytest.approx(other["total"], rel=0.05)
    assert low[-1]["total"] != high[-1]["total"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ("",)}, "freeze leaves no parameter to train"),
        ({"ranker": "rerank/decoder"}, "its settings say decoder, and it is a encoder"),
        ({"loss": {"language_model": 1.0}}, "a language_model loss needs a decoder"),
        ({"validation": "nowhere.jsonl"}, r"nowhere\.jsonl does not exist"),
        ({"train": (Source("nowhere.jsonl"),)}, r"nowhere\.jsonl does not exist"),
        ({"learning_rate": 1e30, "max_gradient_norm": 1e30}, "lower the learning rate"),
    ],
)
def test_a_run_that_cannot_be_is_one_sentence(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(tiny_run(tmp_path, **changes))


def test_a_run_goes_on_only_as_it_was_begun(tmp_path):
    settings = tiny_run(tmp_path)
    train(settings, minutes=0)
    with pytest.raises(ValueError, match="holds a run: go on with it by --resume"):
        train(settings)
    with pytest.raises(ValueError, match="begun with settings seed = 0, and is to go on with 1"):
        train(replace(settings, seed=1), resume=True)
    write_examples(tmp_path / "train.jsonl", SUBJECTS[:4])
    with pytest.raises(ValueError, match=r"begun with sha256 .*train\.jsonl"):
        train(settings, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(ValueError, match="holds something that is no run"):
        train(replace(settings, out=str(tmp_path / "other")))


def test_examples_without_a_label_are_counted(tmp_path):
    settings = tiny_run(tmp_path)
    file = tmp_path / "train.jsonl"
    row = json.loads(file.read_text().splitlines()[0]) | {"relevant": {}}
    file.write_text(file.read_text() + json.dumps(row) + "\n")
    assert train(settings, minutes=0).skipped == 1
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match="has no example with a relevant passage"):
        train(replace(settings, out=str(tmp_path / "none")))


def test_of_an_update_a_share_is_kept(tmp_path):
    settings = tiny_run(
        tmp_path, lora=LoraSettings(rank=4, alpha=8), learning_rate=1e-2, export="update"
    )
    changes = []
    for share in (1.0, 0.25):
        out = str(tmp_path / str(share))
        folder = train(replace(settings, out=out, update_share=share)).model
        tensors = load_file(folder / "update.safetensors")
        name = next(name for name in tensors if name.endswith(".up")).removesuffix(".up")
        changes.append(tensors[f"{name}.up"].float() @ tensors[f"{name}.down"].float())
    assert changes[0].abs().max() > 1e-3
    torch.testing.assert_close(changes[1], 0.25 * changes[0], rtol=2e-3, atol=1e-6)
    with pytest.raises(ValueError, match="it needs export: update"):
        replace(settings, export="whole", update_share=0.5)


def test_the_newest_weights_are_exported_whatever_validated_best(tmp_path, capsys):
    """Validated by the opposite of what it learns, a run is best at its start: an update of 0."""
    settings = tiny_run(
        tmp_path, lora=LoraSettings(rank=2, alpha=4), learning_rate=1e-2, export="update"
    )
    opposite = []
    for line in Path(settings.train[0].path).read_text().splitlines():
        row = json.loads(line)
        wrong = [p["id"] for p in row["passages"] if p["id"] not in row["relevant"]]
        opposite.append(json.dumps(row | {"relevant": dict.fromkeys(wrong, 1)}))
    (tmp_path / "opposite.jsonl").write_text("\n".join(opposite) + "\n")
    settings = replace(
        settings, validation=str(tmp_path / "opposite.jsonl"), validate_every=4, steps=4
    )
    found = train(settings)
    assert found.progress.best_step == 0
    updates = {}
    for name, last in (("best", False), ("last", True)):
        train(settings, resume=True, export=tmp_path / name, last=last)
        tensors = load_file(tmp_path / name / "update.safetensors")
        updates[name] = max(float(t.abs().max()) for n, t in tensors.items() if n.endswith(".up"))
    assert updates["best"] == 0.0
    assert updates["last"] > 1e-3
    command = ["train", "--config", "rerank/train/mini_cross", "--last"]
    assert run_command(make_parser(), command) == 2
    assert "name a folder with --export" in capsys.readouterr().err
