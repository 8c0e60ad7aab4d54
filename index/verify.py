"""Check an index against its manifest: every digest, every count, recall measured again.

Enters: the folder of an index. Leaves: a list of faults, empty when it is whole.
"""

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from index.dense.recall import recall_at_10
from index.dense_index import DenseIndex
from index.manifest.manifest import Manifest
from index.manifest.segments import IDS_FILE
from index.segment import Segment, faults_of, told_of
from index.store.ids import check_unique
from index.words.leg import LexicalLeg

# What half precision leaves of a length of one.
_ROUNDING = 0.01
_QUERIES = 100


class Verification(NamedTuple):
    """What `verify` found: `faults` in words, and recall@10 measured now (NaN when damaged)."""

    faults: list[str]
    recall_at_10: float


def verify(folder: Path) -> Verification:
    """Recompute the digests and the recall of the index in `folder`.

    Raises `ValueError` when its manifest is none, or contradicts itself.
    """
    manifest = Manifest.read(folder)
    faults = [fault for segment in manifest.segments for fault in faults_of(folder, segment)]
    if faults:
        return Verification(faults, float("nan"))
    try:
        return Verification([], _read_through(DenseIndex(folder, manifest)))
    except ValueError as error:
        return Verification([str(error)], float("nan"))


def _read_through(index: DenseIndex) -> float:
    """Recall@10 measured again; raises `ValueError` where a file is not what it should be."""
    index.metadata.check()
    start = 0
    for segment in index.segments:
        with told_of(segment.record):
            _read_segment(segment)
            if index.lexical is not None:
                _read_words(segment, index.lexical, start)
        start += segment.record.passages
    check_unique(
        [segment.ids for segment in index.segments], [segment.live for segment in index.segments]
    )

    def search(queries: np.ndarray, k: int) -> list[np.ndarray]:
        found = index.search(queries, k)
        return [np.array([hit.score for hit in hits], np.float32) for hits in found]

    return recall_at_10(search, index.vectors, _QUERIES)[0]


def _read_segment(segment: Segment) -> None:
    ids = iter(segment.ids)
    for chunk in segment.store.id_chunks():
        if chunk.to_pylist() != list(islice(ids, len(chunk))):
            raise ValueError(f"the passages and {IDS_FILE} have other ids")
    segment.ids.check()
    for _ in segment.store:  # each can be read
        pass
    for shard, part in zip(segment.record.shards, segment.vectors.parts, strict=True):
        if not (np.linalg.norm(part, axis=1) < 1 + _ROUNDING).all():
            raise ValueError(f"{shard.vectors} holds vectors longer than one, or NaN")


def _read_words(segment: Segment, lexical: LexicalLeg, start: int) -> None:
    """Look for some passages by their own words; the segment's rows begin at `start`."""
    for row in np.unique(
        np.linspace(0, segment.record.passages - 1, _QUERIES).astype(int)
    ).tolist():
        if not lexical.holds(start + row, segment.store[row].full_text):
            raise ValueError(f"the lexical files do not hold the words of row {row}")
