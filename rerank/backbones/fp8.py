"""A decoder whose linear layers are in fp8, `dtype="fp8"`: half the bytes of bfloat16.

Enters: a model in bfloat16. Leaves: the same model, its linear layers in e4m3 with one scale an
output; embeddings, norms and what queries and keys of scoring layers are made by stay as they were.
"""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn

from kernels import Fp8Linear, fp8_linears

# What users call it. torch has no such dtype: scales are part of it.
FP8 = "fp8"
_PROJECTIONS = {"q_proj", "k_proj"}


def state_dtype(dtype: torch.dtype | str) -> torch.dtype | str:
    """What a model is loaded in, for a `dtype` that may be `FP8`."""
    return torch.bfloat16 if dtype == FP8 else dtype


def to_fp8(model: Any, scoring: Collection[int], device: torch.device) -> None:
    """Turn the linear layers of `model` into fp8 ones on `device`, one by one.

    Its head stays as it is, and so does what queries and keys of its layers `scoring` come from.
    """
    head = model.get_output_embeddings()
    fp8_linears(model, {head, *_scoring_projections(model, scoring)}, device)


def precision_name(model: Any) -> str:
    """The dtype that `model` runs in, as users name it."""
    if any(isinstance(module, Fp8Linear) for module in model.modules()):
        return FP8
    return str(model.dtype).removeprefix("torch.")


def _scoring_projections(model: nn.Module, scoring: Collection[int]) -> Iterator[nn.Module]:
    """The layers that queries and keys of `scoring` layers come from."""
    for module in model.modules():
        if getattr(module, "layer_idx", None) in scoring:
            children = dict(module.named_children())
            # Who fuses or names them otherwise keeps all of the attention.
            named = _PROJECTIONS if children.keys() >= _PROJECTIONS else children.keys()
            yield from (children[name] for name in named)
