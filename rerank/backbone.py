"""The one interface behind which encoders and decoders score.

Enters: packed prompts. Leaves: the signal tokens' queries and all tokens' keys.
"""

from typing import Any, NamedTuple, Protocol

import torch

from rerank.packing import PackedPrompts
from rerank.settings import RankerSettings


class SignalsAndKeys(NamedTuple):
    """`q` [S, Hq, D] of the signal tokens, `k` [T, Hkv, D] of all tokens, the logits' `scale`."""

    q: torch.Tensor
    k: torch.Tensor
    scale: float


class Backbone(Protocol):
    """A model that reads packed prompts."""

    settings: RankerSettings
    tokenizer: Any
    device: torch.device
    pad_id: int
    query_position: int | None

    def signals_and_keys(self, prompts: PackedPrompts) -> SignalsAndKeys:
        """Run the model as far as scores need it."""
        ...
