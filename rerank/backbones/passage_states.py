"""What a backbone keeps of passages that it has read, so that a later query reads itself alone.

Enters: tensors by name, from a backbone. Leaves: the same, to that backbone, perhaps rounded.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch


class PassageStates(NamedTuple):
    """States by name: `tokens` [T, H, D] of tokens, `passages` [P, d] of whole passages.

    What the names stand for is the backbone's affair; it hands them out and reads them back.
    """

    tokens: Mapping[str, torch.Tensor]
    passages: Mapping[str, torch.Tensor]


def key_name(layer: int | None) -> str:
    """The keys of a decoder's layer, positions applied."""
    return f"k.{layer}"


def value_name(layer: int | None) -> str:
    """The values of a decoder's layer."""
    return f"v.{layer}"


def is_value(name: str) -> bool:
    """Whether `name` is that of a layer's values."""
    return name.startswith("v.")


def head_name(number: int) -> str:
    """The keys of scoring heads that no layer of a query block attends to."""
    return f"head.{number}"
