"""The scorer that asks a small network how to read each query's scores.

Enters: `Hits`, with the queries' embeddings where its settings read them. Leaves: logits.

    CosineAdapter(settings, start, weights).values(hits)
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from configs.settings import make_settings
from retrieval.adapter.hits import Hits
from retrieval.adapter.maps import apply_map
from retrieval.adapter.network import (
    AdapterSettings,
    Start,
    forward,
    map_parameters,
    network_inputs,
    weight_shapes,
)
from retrieval.adapter.profile import profile_names, score_profile


@dataclass(frozen=True)
class CosineAdapter:
    """A monotone map whose parameters a small network chooses for each query."""

    settings: AdapterSettings
    start: Start
    weights: Mapping[str, np.ndarray] = field(repr=False)
    kind: ClassVar[str] = "adapter"
    has_probabilities: ClassVar[bool] = True

    def __post_init__(self) -> None:
        profile = len(profile_names(self.settings.depth))
        profile = 0 if self.settings.inputs == "embedding" else profile
        found = {name: one.shape for name, one in self.weights.items()}
        inputs = found.get("first", ())[1:2]
        wanted: dict[str, tuple[int, ...]] = {**weight_shapes(sum(inputs), self.settings)}
        wanted |= {"profile_mean": (profile,), "profile_spread": (profile,)}
        if found != wanted or self.needs_embeddings != (sum(inputs) > profile):
            raise ValueError("its weights are not those of a network of its settings")

    @property
    def needed_hits(self) -> int:
        """The depth of the score profile, where it is read."""
        return 0 if self.settings.inputs == "embedding" else self.settings.depth

    @property
    def needs_embeddings(self) -> bool:
        """Unless the profile alone is read."""
        return self.settings.inputs != "profile"

    def parameters(self, hits: Hits) -> np.ndarray:
        """Slope a > 0, offset b, exponent k (1 unless the map is `power`) a query, float64 [Q, 3].

        The members' parameters are averaged. The network runs in float64 and its answer is
        rounded to float32, so that a query gets the same parameters in any batch.
        """
        import torch

        embeddings = profile = None
        if self.needs_embeddings:
            width = self.weights["first"].shape[1] - len(self.weights["profile_mean"])
            embeddings = hits.embeddings
            if embeddings is None:
                raise ValueError("this filter reads query embeddings and none were given")
            if embeddings.shape[1] != width:
                raise ValueError(
                    f"this filter reads query embeddings of {width} dimensions and these have "
                    f"{embeddings.shape[1]}; fit a filter for this encoder"
                )
        if self.settings.inputs != "embedding":
            profile = score_profile(hits, self.settings.depth)
        x = network_inputs(
            embeddings, profile, self.weights["profile_mean"], self.weights["profile_spread"]
        )
        weights = {
            name: torch.from_numpy(np.asarray(w)).double()
            for name, w in self.weights.items()
            if not name.startswith("profile_")
        }
        with torch.no_grad():
            outputs = forward(weights, x).mean(dim=0).float().double()
            a, b, k = map_parameters(outputs, self.start, self.settings.map)
        return torch.stack([a, b, torch.ones_like(a) if k is None else k], dim=1).numpy()

    def values(self, hits: Hits) -> np.ndarray:
        """F_q(x), a logit, in float64."""
        import torch

        of_hit = torch.from_numpy(self.parameters(hits)[hits.query_of_hit])
        x = torch.from_numpy(hits.scores.astype(np.float64))
        return apply_map(self.settings.map, x, *of_hit.unbind(dim=1)).numpy()

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Settings and start are JSON, weights are arrays."""
        return {"settings": asdict(self.settings), "start": self.start._asdict()}, dict(
            self.weights
        )

    @classmethod
    def restored(cls, numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The adapter whose `state()` this was; raises `ValueError` where it can't have been."""
        kept = make_settings(_AdapterNumbers, numbers, cls.kind)
        return cls(kept.settings, Start(**asdict(kept.start)), arrays)


@dataclass(frozen=True)
class _StartNumbers:
    slope: float
    offset: float
    centre: float


@dataclass(frozen=True)
class _AdapterNumbers:
    """What JSON holds of a `CosineAdapter`."""

    settings: AdapterSettings
    start: _StartNumbers
