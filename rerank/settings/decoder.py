"""What only a decoder's settings say: which layer's attention scores, and which of its heads.

Enters: a `blockrank.yaml` with `backbone: decoder`. Leaves: `DecoderSettings`.
"""

from dataclasses import dataclass
from typing import Literal

from rerank.settings.common import RankerSettings


@dataclass(frozen=True, kw_only=True)
class DecoderSettings(RankerSettings):
    """A decoder scores by attention logits, and nothing above the layer they come from is computed.

    `layer` is l* of BlockRank (arXiv 2510.05396, section 4), counted from 0; None takes
    `layer_share` of the model's layers. `heads`, pairs of (layer, head), score in place of all
    heads of `layer`, weighted by `head_weights` or alike.

    With a coverage the attention at `coverage_layer`, below the last one that scores, says which
    passages are read on from there; None takes the middle of the layers that run.
    """

    backbone: Literal["decoder"] = "decoder"
    layer: int | None = None
    layer_share: float = 0.625
    heads: tuple[tuple[int, int], ...] | None = None
    head_weights: tuple[float, ...] | None = None
    coverage_layer: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        heads, weights = self.heads or (), self.head_weights
        if self.heads is not None and not heads:
            raise ValueError("heads is empty: list [layer, head] pairs, or leave it out for all")
        if len(set(heads)) != len(heads):
            raise ValueError("heads names a head twice")
        if weights is not None:
            if len(weights) != len(heads):
                raise ValueError(f"head_weights has {len(weights)} values for {len(heads)} heads")
            if not (min(weights) >= 0 and 0 < sum(weights) < float("inf")):
                raise ValueError("head_weights must be 0 or more, and not all of them 0")
