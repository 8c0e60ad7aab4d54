"""A scorer with its threshold: what cuts a result list, is saved beside an index and loaded again.

Enters: query embeddings and the descending scores of each query's hits. Leaves: one mask a query.

    load_filter(index / "filter", retriever.encoder_fingerprint).keep(embeddings, scores)

On disk: `filter.json` (what it is, its threshold, whose scores it fits, where its labels came
from, how it compared) and `weights-<sha256>.safetensors`. The JSON names the weights and is
renamed into place last, so a reader sees the old filter or the new one, never half of each.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from retrieval.adapter.hits import Hits, pack_hits
from retrieval.adapter.scorers import (
    GlobalScore,
    MaxGap,
    MaxNormalised,
    Rank,
    Scorer,
    restore_scorer,
    sigmoid,
)
from retrieval.calibration import ByHand, logit, rule_state

FORMAT_VERSION = 1
FILTER_FILE = "filter.json"
# A threshold on plain scores fits the scores of any model.
ANY_ENCODER = ""


class RelevanceFilter(Protocol):
    """Decides for every hit whether it stays; never reorders."""

    @property
    def needed_hits(self) -> int:
        """Search at least this deep before filtering; fewer hits than that may all be there are."""
        ...

    @property
    def needs_embeddings(self) -> bool:
        """Whether `keep` needs the query embeddings or may be given None."""
        ...

    def keep(
        self, query_embeddings: np.ndarray | None, scores: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Masks (bool) over each query's descending scores; embeddings float32 [Q, d] or None."""
        ...

    def calibrated(
        self, query_embeddings: np.ndarray | None, scores: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """A float64 in [0, 1] for each hit: its probability of relevance where that is known."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the filter into a folder of its own."""
        ...


@dataclass(frozen=True)
class ThresholdFilter:
    """Keeps a hit iff its scorer's value >= threshold."""

    scorer: Scorer
    threshold: float  # in the scorer's values
    encoder_fingerprint: str = ANY_ENCODER
    # How it came about: threshold rule, labels, comparison. JSON all through.
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def needed_hits(self) -> int:
        """Hits of a query that the scorer reads to judge each one."""
        return self.scorer.needed_hits

    @property
    def needs_embeddings(self) -> bool:
        """Whether the scorer reads query embeddings."""
        return self.scorer.needs_embeddings

    def keep(
        self, query_embeddings: np.ndarray | None, scores: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Which hits stay, bool, one array a query; a prefix of each list.

        Raises `ValueError` for NaN or unsorted scores, or embeddings that do not fit.
        """
        hits = self._pack(query_embeddings, scores)
        return hits.split(kept(self.scorer.values(hits), self.threshold))

    def calibrated(
        self, query_embeddings: np.ndarray | None, scores: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Each hit's probability of relevance, float64 in [0, 1], one array a query.

        A scorer that knows no probabilities (a plain score, a rank) gives sigmoid(value -
        threshold): no probability, but .5 still is where the cut lies.
        """
        hits = self._pack(query_embeddings, scores)
        values = self.scorer.values(hits)
        return hits.split(
            sigmoid(values if self.scorer.has_probabilities else values - self.threshold)
        )

    def _pack(self, query_embeddings: np.ndarray | None, scores: Sequence[np.ndarray]) -> Hits:
        return pack_hits(query_embeddings if self.needs_embeddings else None, scores)

    def with_threshold(self, value: float) -> "ThresholdFilter":
        """The same scorer cut by hand: at a probability where it has them, else at a score."""
        rule = ByHand(value)
        threshold = logit(value) if self.scorer.has_probabilities else value
        record = {**self.record, "threshold_rule": rule_state(rule)}
        return ThresholdFilter(self.scorer, threshold, self.encoder_fingerprint, record)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `filter.json` and its weights; an older filter in the folder is replaced whole."""
        from safetensors.numpy import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        numbers, arrays = self.scorer.state()
        payload = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        weights = _weights_name(payload)
        _write(folder / weights, payload)
        description = {
            "format_version": FORMAT_VERSION,
            "kind": self.scorer.kind,
            "encoder_fingerprint": self.encoder_fingerprint,
            "threshold": self.threshold,
            "probability_at_threshold": (
                float(sigmoid(np.array(self.threshold))) if self.scorer.has_probabilities else None
            ),
            "weights": weights,
            "scorer": numbers,
            **self.record,
        }
        text = json.dumps(description, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        _write(folder / FILTER_FILE, text.encode())
        for stale in folder.glob("weights-*.safetensors"):
            if stale.name != weights:
                stale.unlink()


def kept(values: np.ndarray, threshold: float) -> np.ndarray:
    """The one comparison of the whole adapter: value >= threshold."""
    return values >= threshold


def load_filter(folder: str | os.PathLike[str], encoder_fingerprint: str) -> ThresholdFilter:
    """Read a filter saved beside an index and check that its scores come from the same encoder.

    Raises `ValueError` where the filter was fitted for another encoder, has another format
    version, or its files are damaged; `FileNotFoundError` where there is none.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(folder) / FILTER_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"no filter at {folder}: fit one with `python -m retrieval.filter fit`"
        )
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version = description.pop("format_version")
        kind, weights = description.pop("kind"), description.pop("weights")
        fingerprint, threshold = (
            description.pop("encoder_fingerprint"),
            float(description.pop("threshold")),
        )
        numbers = description.pop("scorer")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no filter description ({error}); fit the filter again"
        ) from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this program reads {FORMAT_VERSION}; fit again"
        )
    if fingerprint not in (ANY_ENCODER, encoder_fingerprint):
        raise ValueError(
            f"the filter at {folder} was fitted on scores of {fingerprint!r} and these come from "
            f"{encoder_fingerprint!r}; fit it again for this index"
        )
    try:
        payload = (path.parent / weights).read_bytes()
        if weights != _weights_name(payload):
            raise ValueError("its bytes are not those that were written")
        arrays = load(payload)
        scorer = restore_scorer(kind, numbers, arrays)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.parent / weights} is damaged ({error}); fit the filter again"
        ) from None
    description.pop("probability_at_threshold", None)
    return ThresholdFilter(scorer, threshold, fingerprint, description)


def threshold_filter(value: float) -> ThresholdFilter:
    """One global threshold on the score, chosen by hand; fits any encoder or reranker.

    The threshold is rounded to float32 as scores are, so that a score of .35 passes .35.
    """
    record = {"threshold_rule": rule_state(ByHand(value))}
    return ThresholdFilter(GlobalScore(), float(np.float32(value)), record=record)


def max_norm_filter(value: float) -> ThresholdFilter:
    """Keep hits whose score is at least `value` of the query's best score."""
    return ThresholdFilter(
        MaxNormalised(), value, record={"threshold_rule": rule_state(ByHand(value))}
    )


def top_k_filter(k: int) -> ThresholdFilter:
    """Keep the first k hits."""
    return ThresholdFilter(Rank(), -float(k), record={"threshold_rule": rule_state(ByHand(k))})


def max_gap_filter(depth: int = 50) -> ThresholdFilter:
    """Cut at the largest gap between neighbouring scores among the first `depth` hits."""
    return ThresholdFilter(MaxGap(depth), 1.0, record={"threshold_rule": rule_state(ByHand(1))})


def _weights_name(payload: bytes) -> str:
    return f"weights-{hashlib.sha256(payload).hexdigest()[:16]}.safetensors"


def _write(path: Path, payload: bytes) -> None:
    """All or nothing: temporary name, flushed to the disk, renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
