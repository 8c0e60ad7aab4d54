"""The folder of a run: its settings and data, its log, its checkpoints, its result.

Enters: settings and a folder. Leaves: `run.json`, `log.jsonl`, `checkpoint-*`, and `model`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from configs.files import replacing
from rerank.examples.shared import written
from rerank.training.settings import TrainingSettings

MODEL = "model"
_RUN = "run.json"
_LOG = "log.jsonl"
_PACKAGES = ("blockseek", "torch", "transformers", "accelerate", "peft")
# What may differ between the parts of one run: they decide how it goes, or what is kept in the end,
# not what is learned.
_FREE = ("out", "device", "checkpoint_minutes", "update_share")


def run_record(settings: TrainingSettings, resume: bool) -> dict[str, Any]:
    """What makes the run in `settings.out`, as it was begun if there is one.

    Raises `ValueError` when there is a run and `resume` is not asked for, and when it is asked for
    with other settings or changed files.
    """
    folder = Path(settings.out)
    record: dict[str, Any] = json.loads(json.dumps(_record(settings)))
    file = folder / _RUN
    if not file.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds something that is no run; name another --out")
        return record
    if not resume:
        raise ValueError(f"{folder} holds a run: go on with it by --resume, or name another --out")
    before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for what in ("settings", "sha256"):
        for key in sorted(before[what].keys() | record[what].keys()):
            was, now = before[what].get(key), record[what].get(key)
            if key not in _FREE and was != now:
                raise ValueError(
                    f"{folder} was begun with {what} {key} = {was!r}, and is to go on with "
                    f"{now!r}; use what it was begun with, or name another --out"
                )
    return before


def write_record(settings: TrainingSettings, record: Mapping[str, Any]) -> None:
    """Begin the run, or leave the record of one that was begun."""
    with replacing(Path(settings.out) / _RUN) as file:
        file.write(json.dumps(dict(record), indent=1).encode() + b"\n")


class Log:
    """Lines of JSON, one a report; a line's `step` is the number of steps done."""

    def __init__(self, folder: Path | str, step: int) -> None:
        """Continue the log of `folder` behind `step`; lines beyond it will be made again."""
        self._path = Path(folder) / _LOG
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        kept = [line for line in lines if _step(line) <= step] if step else []
        with replacing(self._path) as file:
            file.write("".join(f"{line}\n" for line in kept).encode())

    def add(self, **values: Any) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def read_log(folder: Path | str) -> list[dict[str, Any]]:
    """All lines of a run's log."""
    lines = (Path(folder) / _LOG).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")  # the half line of a killed process


def _record(settings: TrainingSettings) -> dict[str, Any]:
    files = [source.path for source in settings.train]
    files += [settings.validation] if settings.validation else []
    return {
        "settings": asdict(settings),
        "sha256": {str(part): _digest(part) for path in files for part in written(path)},
        "versions": _versions(),
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> Mapping[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
