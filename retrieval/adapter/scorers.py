"""What turns a query's hits into values that one global threshold can cut, without a network.

Enters: `Hits`. Leaves: float64 values, one a hit, never rising where the scores fall.

    Platt(slope=20.0, offset=-9.0).values(hits)

A scorer is a frozen dataclass. Its arrays and numbers are its whole state, which `state()` gives
and the constructor takes back.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from retrieval.adapter.hits import Hits


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


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-v)) without overflow."""
    return np.exp(-np.logaddexp(0.0, -values))
