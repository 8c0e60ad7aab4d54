"""`python -m rerank train --config FILE --out FOLDER`: train a ranker, in one go or in pieces.

Enters: a YAML file of training settings, files of examples. Leaves: a run's folder, whose `model`
is a reranker.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.command import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the `train` subcommand."""
    parser = subparsers.add_parser(
        "train",
        help="train a ranker on labelled examples",
        description="Train a ranker. Options stand above what the file says.",
    )
    parser.add_argument("--config", required=True, help="a YAML file, or rerank/train/NAME")
    parser.add_argument("--out", help="the run's folder; the reranker will be its `model`")
    parser.add_argument("--model", help="what to start from: minilm, smollm2, a folder, a hub name")
    parser.add_argument("--train", nargs="+", metavar="FILE", help="files of examples")
    parser.add_argument(
        "--mix",
        type=Path,
        metavar="FOLDER",
        help="examples to train on and to validate by, as `python -m eval mini-mix` made them",
    )
    parser.add_argument("--validation", metavar="FILE", help="examples that choose the checkpoint")
    parser.add_argument("--steps", type=int, help="steps of the optimizer")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--device", help="cpu, or the best there is")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--minutes", type=float, help="stop after that long, to be resumed")
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FOLDER",
        help="train nothing: write what the run in --out has learned so far",
    )
    parser.add_argument(
        "--last",
        action="store_true",
        help="export the newest weights, not those that validated best",
    )
    parser.add_argument(
        "--update-share", type=float, help="of an exported update, how much of it (1: all)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Train, and say how far it came."""
    from configs.settings import read_settings
    from rerank.training.settings import TrainingSettings

    if arguments.last and arguments.export is None:
        raise ValueError("--last says which weights --export writes: name a folder with --export")
    names = ("out", "model", "validation", "steps", "seed", "device", "update_share")
    given: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    if arguments.train:
        given["train"] = [{"path": path} for path in arguments.train]
    if arguments.mix:
        given |= mix_of(arguments.mix) | {k: v for k, v in given.items() if v is not None}
    settings = read_settings(TrainingSettings, arguments.config, **given)
    from rerank.training.trainer import train

    found = train(
        settings,
        resume=arguments.resume or arguments.export is not None,
        minutes=arguments.minutes,
        export=arguments.export,
        last=arguments.last,
    )
    if arguments.json:
        model = None if found.model is None else str(found.model)
        print(json.dumps(asdict(found.progress) | {"steps": found.steps, "model": model}))
        return
    if found.skipped:
        print(f"{found.skipped} examples were skipped: nothing to learn from")
    best = found.progress.best_value
    if best is not None:
        print(
            f"best nDCG@10 on {settings.validation}: {best:.4f} at step {found.progress.best_step}"
        )
    if found.model is None:
        print(f"{settings.out}: {found.progress.step} of {found.steps} steps; go on with --resume")
    else:
        print(f"{found.model}: trained for {found.progress.step} steps")


def mix_of(folder: Path) -> dict[str, Any]:
    """The sources and the validation file of a prepared folder, wherever it lies now.

    Raises `ValueError` where its `train.yaml` is missing or is none.
    """
    from configs.settings import read_mapping

    found = read_mapping(folder / "train.yaml")
    try:
        sources = [s | {"path": str(folder / s["path"])} for s in found["train"]]
        return {"train": sources, "validation": str(folder / found["validation"])}
    except (KeyError, TypeError):
        raise ValueError(
            f"{folder / 'train.yaml'} does not name sources under train and a validation file"
        ) from None
