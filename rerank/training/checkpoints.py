"""Where a run stands, on disk: weights, optimizer and progress, none of them pickled.

Enters: the trained parameters, their optimizer, the progress. Leaves: a folder that appears whole,
named for its step; the ones before it are removed.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from configs.files import new_folder

_NAME = "checkpoint-{step:08d}"
_STEP = re.compile(r"checkpoint-(\d{8})")
_WEIGHTS = "weights.safetensors"
_OPTIMIZER = "optimizer.safetensors"
_BEST = "best.safetensors"
_PROGRESS = "progress.json"


@dataclass(frozen=True)
class Progress:
    """`step` steps are done; the best validation so far, and the step it was measured at."""

    step: int = 0
    best_step: int | None = None
    best_value: float | None = None


def save_checkpoint(
    folder: Path,
    progress: Progress,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, torch.Tensor] | None,
) -> None:
    """Write `checkpoint-STEP` into `folder`; `best` are the parameters of the best validation."""
    target = folder / _NAME.format(step=progress.step)
    if not target.exists():
        with new_folder(target) as made:
            save_file(plain(parameters), made / _WEIGHTS)
            save_file(plain(_moments(parameters, optimizer)), made / _OPTIMIZER)
            if best is not None:
                save_file(plain(best), made / _BEST)
            (made / _PROGRESS).write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")
    for other in _checkpoints(folder):
        if other != target:
            shutil.rmtree(other)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote a checkpoint into `folder`."""
    for unfinished in folder.glob(".checkpoint-*"):
        shutil.rmtree(unfinished)


def load_checkpoint(
    folder: Path,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> tuple[Progress, dict[str, torch.Tensor] | None]:
    """Put the newest checkpoint of `folder` into parameters and optimizer; its progress and best.

    A folder without a checkpoint is at step 0. Raises `ValueError` for one of other parameters.
    """
    found = _checkpoints(folder)
    if not found:
        return Progress(), None
    newest = found[-1]
    weights = load_file(newest / _WEIGHTS)
    if weights.keys() != parameters.keys():
        differing = sorted(weights.keys() ^ parameters.keys())[0]
        raise ValueError(f"{newest} is of another model: only one of them trains {differing!r}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    for name, value in load_file(newest / _OPTIMIZER).items():
        moment, _, owner = name.partition("/")
        parameter = parameters[owner]
        # The count of steps stays on the host, as the optimizer makes it.
        optimizer.state[parameter][moment] = value if value.dim() == 0 else value.to(parameter)
    progress = Progress(**json.loads((newest / _PROGRESS).read_text(encoding="utf-8")))
    best = load_file(newest / _BEST) if (newest / _BEST).is_file() else None
    return progress, best


def plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies on the host that share nothing, as safetensors wants them."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def _moments(
    parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """AdamW's state by `moment/parameter`; a parameter that never had a gradient has none."""
    return {
        f"{moment}/{name}": value
        for name, parameter in parameters.items()
        for moment, value in optimizer.state.get(parameter, {}).items()
    }


def _checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of `folder`, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if _STEP.fullmatch(path.name))
