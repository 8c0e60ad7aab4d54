"""A model shipped as a small change of another: a low-rank update of linear layers (LoRA).

Enters: `update.safetensors`, two thin matrices a layer. Leaves: the base model with the update
added, as exact as float32 sums are: nothing of it is left to compute at run time.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

FILE = "update.safetensors"
DOWN, UP = "down", "up"


def add_update(model: nn.Module, folder: Path) -> None:
    """Add the update in `folder`, if there is one, to `model`'s weights, in place.

    For a layer N the file holds `N.down` [r, in] and `N.up` [out, r]; its weight grows by up @
    down. Raises `ValueError` naming the file for a layer or a shape that the model does not have.
    """
    path = folder / FILE
    if not path.is_file():
        return
    tensors = load_tensors(path)
    names = sorted({name.rpartition(".")[0] for name in tensors})
    modules = dict(model.named_modules())
    for name in names:
        down, up = (tensors.get(f"{name}.{part}") for part in (DOWN, UP))
        module = modules.get(name)
        if down is None or up is None or not isinstance(module, nn.Linear):
            raise ValueError(f"{path}: {name} is no linear layer of the base model, or half of one")
        if (up.shape[0], down.shape[1]) != module.weight.shape or up.shape[1] != down.shape[0]:
            raise ValueError(
                f"{path}: {name} is {tuple(up.shape)} @ {tuple(down.shape)}, its weight "
                f"{tuple(module.weight.shape)}"
            )
        with torch.no_grad():
            module.weight += (up.float() @ down.float()).to(module.weight)


def update_tensors(
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
) -> dict[str, torch.Tensor]:
    """What the file holds, in float16, for (down, up) by layer."""
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors[f"{name}.{DOWN}"] = down.detach().to("cpu", torch.float16).contiguous()
        tensors[f"{name}.{UP}"] = up.detach().to("cpu", torch.float16).contiguous()
    return tensors


def with_earlier(
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]], folder: Path
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """`pairs` (down, up) by layer on top of the update in `folder`, if it has one: one of both.

    Their ranks add up, and so do their products.
    """
    path = folder / FILE
    earlier = load_tensors(path) if path.is_file() else {}
    both = dict(pairs)
    for name in sorted({name.rpartition(".")[0] for name in earlier}):
        down, up = earlier[f"{name}.{DOWN}"].float(), earlier[f"{name}.{UP}"].float()
        if name in pairs:
            down = torch.cat([down, pairs[name][0].detach().float().cpu()])
            up = torch.cat([up, pairs[name][1].detach().float().cpu()], dim=1)
        both[name] = (down, up)
    return both


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; `ValueError` naming it where it is broken."""
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error})") from None
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{path}: {name} holds a value that is not finite")
    return tensors
