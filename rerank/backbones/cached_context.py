"""Forward passes that fill a passage cache, and those that read one.

Enters: the attention of one layer after the other. Leaves: the passages' keys and values; or, for a
query block alone, its attention over cached ones, as if the passages stood in front of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from kernels import CachedLayout, QuantizedTokens, cached_attention
from rerank.backbones.block_interface import BlockContext
from rerank.backbones.passage_states import key_name, value_name


@dataclass
class KeepingContext(BlockContext):
    """Keeps what query blocks will need: `kept` k and v [T, Hkv, D] by name.

    With `attended`, keys of all layers and values of all but the last; without, the keys that
    score alone.
    """

    attended: bool = True
    kept: dict[str, torch.Tensor] = field(default_factory=dict)

    def keys(self, layer: int | None, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """`k`, having kept it and, below the last layer, `v`."""
        if self.attended or layer in self.scoring_layers:
            self.kept[key_name(layer)] = k
        if self.attended and layer != self.last:
            self.kept[value_name(layer)] = v
        return k


@dataclass
class CachedContext(BlockContext):
    """A pass over query blocks that attend to themselves and, at `places`, to `cached` tokens.

    Signals score cached keys; without `places` that is all, and query blocks are read alone.
    """

    cached: Mapping[str, torch.Tensor] = field(default_factory=dict)
    places: CachedLayout | None = None

    def keys(self, layer: int | None, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The cached keys of a layer that scores."""
        return self.cached[key_name(layer)] if layer in self.scoring_layers else k

    def attend(
        self, layer: int | None, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """The query blocks' rows [Tq, Hq, D]."""
        if self.places is None:
            return super().attend(layer, q, k, v, scale)
        cached_k, cached_v = (
            QuantizedTokens(self.cached[name]) for name in (key_name(layer), value_name(layer))
        )
        output, _ = cached_attention(
            q, k, v, cached_k, cached_v, self.places, causal=self.causal, scale=scale
        )
        return output

    def check_window(self, window: int) -> None:
        """The cached blocks were checked when they were read."""
