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
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from configs.formats.lines import parse_json
from configs.settings import make_settings
from index.disk.files import naming
from retrieval.adapter.hits import Hits, pack_hits
from retrieval.adapter.restored import restore_scorer
from retrieval.adapter.scorers import (
    GlobalScore,
    MaxGap,
    MaxNormalised,
    Rank,
    Scorer,
    sigmoid,
)
from retrieval.calibration import ByHand, logit, rule_state

FORMAT_VERSION = 1
FILTER_FILE = "filter.json"
_WEIGHTS = re.compile(r"weights-[0-9a-f]{16}\.safetensors")
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
    described, record = _described(path)
    if described.encoder_fingerprint not in (ANY_ENCODER, encoder_fingerprint):
        raise ValueError(
            f"the filter at {folder} was fitted on scores of {described.encoder_fingerprint!r} and "
            f"these come from {encoder_fingerprint!r}; fit it again for this index"
        )
    weights = path.parent / described.weights
    try:
        if not weights.resolve().is_relative_to(path.parent.resolve()):
            raise ValueError("it is a link that leads out of the folder")
        payload = weights.read_bytes()
        if weights.name != _weights_name(payload):
            raise ValueError("its bytes are not those that were written")
        scorer = restore_scorer(described.kind, described.scorer, load(payload))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{weights} is damaged ({error}); fit the filter again") from None
    return ThresholdFilter(scorer, described.threshold, described.encoder_fingerprint, record)


@dataclass(frozen=True)
class _Described:
    """What `filter.json` holds of every filter, besides the record of how it came about."""

    format_version: int
    kind: str
    encoder_fingerprint: str
    threshold: float
    weights: str
    scorer: dict[str, Any]
    probability_at_threshold: float | None = None

    def __post_init__(self) -> None:
        if not _WEIGHTS.fullmatch(self.weights):
            raise ValueError(f"weights is {self.weights!r:.80}, wanted the name of its file")


def _described(path: Path) -> tuple[_Described, dict[str, Any]]:
    """What the file `path` describes, and its record."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        version = values.get("format_version")
        if isinstance(version, int) and version != FORMAT_VERSION:
            raise ValueError(
                f"it has format version {version}, this program reads {FORMAT_VERSION}"
            )
        known = {field.name for field in fields(_Described)}
        described = {name: value for name, value in values.items() if name in known}
        record = {name: value for name, value in values.items() if name not in known}
        return make_settings(_Described, described, FILTER_FILE), record
    except ValueError as error:
        raise ValueError(
            f"{path} is no filter description ({error}); fit the filter again"
        ) from None


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
    with naming(path):
        with temporary.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
