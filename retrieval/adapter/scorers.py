"""Everything that turns a query's hits into values that one global threshold can cut.

Enters: `Hits`. Leaves: float64 values, one a hit, never rising where the scores fall.

    Platt(slope=20.0, offset=-9.0).values(hits)

A scorer is a frozen dataclass. Its arrays and numbers are its whole state, which `state()` gives
and the constructor takes back.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol

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


class Scorer(Protocol):
    """Values of hits, comparable across queries, in the order of the hits."""

    kind: ClassVar[str]
    # Values are logits: sigmoid(value) is the probability that the hit is relevant.
    has_probabilities: ClassVar[bool]

    @property
    def needed_hits(self) -> int:
        """How many hits of a query the values depend on, 0 when each hit stands for itself."""
        ...

    @property
    def needs_embeddings(self) -> bool:
        """Whether the queries' embeddings are read."""
        ...

    def values(self, hits: Hits) -> np.ndarray:
        """Float64 [P], not rising along any query's hits."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What JSON holds and what safetensors holds."""
        ...


class _Plain:
    """Defaults of the scorers that read scores alone and keep no arrays."""

    has_probabilities: ClassVar[bool] = False

    @property
    def needed_hits(self) -> int:
        return 0

    @property
    def needs_embeddings(self) -> bool:
        return False

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return asdict(self), {}  # type: ignore[call-overload]


@dataclass(frozen=True)
class GlobalScore(_Plain):
    """The score itself: one global threshold on the cosine."""

    kind: ClassVar[str] = "global"

    def values(self, hits: Hits) -> np.ndarray:
        """The scores."""
        return hits.scores.astype(np.float64)


@dataclass(frozen=True)
class MaxNormalised(_Plain):
    """The score over the size of its query's best score."""

    kind: ClassVar[str] = "max-norm"

    @property
    def needed_hits(self) -> int:
        """The best one."""
        return 1

    def values(self, hits: Hits) -> np.ndarray:
        """x / |best|: dividing by a negative best would turn the order around."""
        some = hits.counts > 0
        best = np.zeros(hits.queries)
        best[some] = np.abs(hits.scores[hits.offsets[:-1][some]])
        return hits.scores / np.maximum(best, 1e-9)[hits.query_of_hit]


@dataclass(frozen=True)
class Rank(_Plain):
    """Minus the rank: a threshold of -k keeps the top k."""

    kind: ClassVar[str] = "top-k"

    def values(self, hits: Hits) -> np.ndarray:
        """-1 for the first hit, -2 for the second and so on."""
        return -1.0 - hits.rank_of_hit


@dataclass(frozen=True)
class MaxGap(_Plain):
    """1 before the query's largest gap between neighbouring scores, 0 behind it."""

    depth: int = 50
    kind: ClassVar[str] = "max-gap"

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth is {self.depth}, wanted at least 1")

    @property
    def needed_hits(self) -> int:
        """The gap is looked for among these."""
        return self.depth

    def values(self, hits: Hits) -> np.ndarray:
        """1 above the largest gap among the first `depth` hits (first of equals), else 0."""
        rank = hits.rank_of_hit
        inside = (rank[1:] > 0) & (rank[1:] < self.depth)
        gaps = np.where(inside, hits.scores[:-1].astype(np.float64) - hits.scores[1:], -1.0)
        values = (rank == 0).astype(np.float64)
        for begin, end in zip(hits.offsets[:-1], hits.offsets[1:], strict=True):
            if end - begin > 1:
                values[begin : begin + 1 + int(np.argmax(gaps[begin : end - 1]))] = 1
        return values


PLAIN_SCORERS: dict[str, Scorer] = {
    scorer.kind: scorer for scorer in (GlobalScore(), MaxNormalised(), Rank(), MaxGap())
}


@dataclass(frozen=True)
class Platt(_Plain):
    """slope * x + offset, a logit: Platt's calibration of the global or max-normalised score."""

    slope: float
    offset: float
    of: str = GlobalScore.kind
    kind: ClassVar[str] = "platt"
    has_probabilities: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.of not in PLAIN_SCORERS:
            raise ValueError(f"of is {self.of!r}, wanted one of {', '.join(PLAIN_SCORERS)}")

    @property
    def needed_hits(self) -> int:
        """Those of the score below it."""
        return PLAIN_SCORERS[self.of].needed_hits

    def values(self, hits: Hits) -> np.ndarray:
        """The logit of each score."""
        return self.slope * PLAIN_SCORERS[self.of].values(hits) + self.offset


@dataclass(frozen=True)
class Isotonic(_Plain):
    """A rising, piecewise linear map from score to logit (pool adjacent violators)."""

    scores: np.ndarray  # float64 [K], rising
    logits: np.ndarray  # float64 [K], never falling
    kind: ClassVar[str] = "isotonic"
    has_probabilities: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or self.scores.shape != self.logits.shape or not len(self.scores):
            raise ValueError("scores and logits are no knots of one curve")
        if not ((np.diff(self.scores) >= 0).all() and (np.diff(self.logits) >= 0).all()):
            raise ValueError("its curve falls")

    def values(self, hits: Hits) -> np.ndarray:
        """Interpolated logits; flat beyond the first and last knot."""
        x = np.clip(hits.scores.astype(np.float64), self.scores[0], self.scores[-1])
        right = np.clip(np.searchsorted(self.scores, x, side="left"), 1, len(self.scores) - 1)
        low, high = self.logits[right - 1], self.logits[right]
        # Rounding at a segment's end must not step over the neighbour's start.
        return np.clip(np.interp(x, self.scores, self.logits), low, high)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The knots are arrays."""
        return {}, {"scores": self.scores, "logits": self.logits}


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


SCORERS: dict[str, type] = {
    cls.kind: cls
    for cls in (GlobalScore, MaxNormalised, Rank, MaxGap, Platt, Isotonic, CosineAdapter)
}


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


def restore_scorer(kind: str, numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> Scorer:
    """The scorer whose `state()` this was.

    Raises `ValueError` for an unknown kind, and numbers or arrays that are not those of its kind.
    """
    if kind not in SCORERS:
        raise ValueError(f"scorer {kind!r} is not one of {', '.join(SCORERS)}")
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name} holds what is no finite number")
    if kind == CosineAdapter.kind:
        kept = make_settings(_AdapterNumbers, numbers, kind)
        return CosineAdapter(kept.settings, Start(**asdict(kept.start)), arrays)
    scorer: Scorer = make_settings(SCORERS[kind], {**numbers, **arrays}, kind)
    return scorer


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-v)) without overflow."""
    return np.exp(-np.logaddexp(0.0, -values))
