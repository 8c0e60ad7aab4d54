"""Train a low-rank update instead of the weights (LoRA, arXiv 2106.09685), by peft.

Enters: a transformers model. Leaves: the same model with adapters inside; later, the weights with
the update added.
"""

from typing import Any

import torch
from torch import nn

from rerank.training.settings import LoraSettings


def add_adapters(model: nn.Module, settings: LoraSettings, seed: int) -> None:
    """Put adapters into `model`'s linear layers, in place, and freeze the rest.

    The update starts at 0. Raises `ValueError` when peft is not installed, or no layer of the
    model goes by one of the `targets`.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ValueError("lora needs peft: pip install 'blockseek[train]'") from None
    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(settings.targets) or "all-linear",
    )
    inject_adapter_in_model(config, model)


def merged_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that have an update, with it, by the names they have without adapters."""
    from peft.tuners.lora import LoraLayer

    merged = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            delta = layer.get_delta_weight("default")
            merged[f"{name}.weight"] = layer.get_base_layer().weight.detach() + delta.detach()
    return merged


def low_rank_pairs(model: nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(down [r, in], up [out, r]) of the layers that have an update, its scaling in `up`."""
    from peft.tuners.lora import LoraLayer

    pairs = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            up = layer.lora_B["default"].weight * layer.scaling["default"]
            pairs[name] = (layer.lora_A["default"].weight, up)
    return pairs
