"""`python -m rerank train`, as it is typed."""

import json

import pytest
import yaml
from training_cases import SUBJECTS, tiny_run, write_examples

from configs.command import run_command
from rerank.__main__ import make_parser


@pytest.fixture
def command(tmp_path):
    """Arguments of a run of two steps, with a validation file."""
    settings = tiny_run(tmp_path)
    config = tmp_path / "run.yaml"
    values = {"model": settings.model, "device": "cpu", "passages": 3, "learning_rate": 1e-3}
    config.write_text(yaml.safe_dump(values | {"prompts_per_step": 2, "validate_every": 1}))
    validation = write_examples(tmp_path / "valid.jsonl", SUBJECTS[:2])
    files = ["--train", settings.train[0].path, "--validation", validation]
    out = ["--out", tmp_path / "out", "--steps", 2]
    return [str(part) for part in ("--config", config, *files, *out)]


def _run(*arguments):
    return run_command(make_parser(), ["train", *arguments])


def test_a_run_stopped_and_resumed(command, tmp_path, capsys):
    assert not _run(*command, "--minutes", "0")
    out = tmp_path / "out"
    assert f"{out}: 1 of 2 steps; go on with --resume" in capsys.readouterr().out
    assert _run(*command) == 2
    assert "go on with it by --resume" in capsys.readouterr().err
    assert not _run(*command, "--resume")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"best nDCG@10 on {tmp_path / 'valid.jsonl'}: ")
    assert said[1] == f"{out / 'model'}: trained for 2 steps"
    assert not _run(*command, "--resume", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == str(out / "model")
    assert (found["step"], found["steps"]) == (2, 2)
    assert 0 <= found["best_value"] <= 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "steps is 0, wanted at least 1"),
        ("speed", 3, "speed"),
        ("loss", {"info_nce": -1}, "wanted 0 or more"),
        ("lora", {"rank": 0}, "rank is 0, wanted at least 1"),
        ("export", "update", "it needs lora"),
        ("prompts_per_pass", 3, "must be a multiple of prompts_per_pass"),
    ],
)
def test_bad_settings_are_one_sentence(command, tmp_path, capsys, name, value, message):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {name: value}))
    arguments = command[: command.index("--steps")]
    assert _run(*arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()
