"""Small training runs: a few examples, a tiny random model, settings that finish in a second."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from rerank_cases import save_model

from rerank.training.settings import LossSettings, Source, TrainingSettings

SUBJECTS = ("pear", "rain", "faust", "bee", "iron", "whale", "moon", "bread")


def write_examples(path: Path, subjects=SUBJECTS, scores: bool = False) -> Path:
    """One query a subject; its passage is relevant, those of the next three subjects are not."""
    lines = []
    for number, subject in enumerate(subjects):
        others = [SUBJECTS[(SUBJECTS.index(subject) + step) % len(SUBJECTS)] for step in (1, 2, 3)]
        passages = [
            {"id": f"p{place}", "title": "", "text": f"A short text that tells about the {name}."}
            for place, name in enumerate((subject, *others))
        ]
        row = {"id": f"q{number}", "query": f"what of the {subject}?", "passages": passages}
        row["relevant"] = {"p0": 1}
        if scores:
            row["scores"] = {"p0": 0.9, "p1": 0.2, "p2": 0.3}
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
    return path


def tiny_run(folder: Path, family: str = "Bert", **changes: object) -> TrainingSettings:
    """Settings of a run of 4 steps in `folder / "run"`, over a model saved in `folder / "base"`."""
    base = folder / "base"
    if not base.exists():
        save_model(base, family, "minilm" if family == "Bert" else "smollm2", num_hidden_layers=3)
    file = write_examples(folder / "train.jsonl", scores=True)
    settings = TrainingSettings(
        out=str(folder / "run"),
        model=str(base),
        train=(Source(str(file)),),
        passages=4,
        prompts_per_step=4,
        prompts_per_pass=2,
        steps=4,
        learning_rate=1e-3,
        device="cpu",
    )
    loss = changes.pop("loss", None)
    if isinstance(loss, dict):
        changes["loss"] = replace(LossSettings(), **loss)
    return replace(settings, **changes)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of an exported model."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
