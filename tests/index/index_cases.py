"""Indexes over random unit vectors, written as a build writes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from index.change import IndexChange
from index.files import only_writer
from index.manifest import MANIFEST, EncoderRecord, Manifest
from index.plan import Plan
from index.records import Passage
from index.writer import IndexWriter

# On a busy machine FAISS's threads spend minutes waiting for each other in training.
faiss.omp_set_num_threads(1)

DIMENSION = 32
ENCODER = EncoderRecord("test", "fingerprint", DIMENSION, 128, "mean", "", "")
PLAN = Plan("made", "fingerprint", {"shard_size": 100})


def unit_vectors(rows: int, dimension: int = DIMENSION, seed: int = 0) -> np.ndarray:
    """Rows around 20 centres: neighbours exist, as in a real corpus."""
    centres = np.random.default_rng(99).normal(size=(20, dimension))
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(20, size=rows)]
    vectors = vectors + 0.5 * generator.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def passages(rows: int) -> list[Passage]:
    return [
        Passage(f"p{row:04d}", f"title {row}" * (row % 2), f"text {row}") for row in range(rows)
    ]


def as_format_1(folder: Path) -> None:
    """Write the manifest of a fresh build as it was before an index could be changed."""
    values = json.loads((folder / MANIFEST).read_text())
    (segment,) = values.pop("segments")
    assert (segment.pop("deleted"), values.pop("deleted"), values.pop("changes")) == (None, 0, 0)
    del segment["recall_asked"]
    assert segment["data"].endswith(f"-{values.pop('last_data'):04d}")
    values |= segment | {"format_version": 1}
    (folder / MANIFEST).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def segment_of(values: dict[str, Any]) -> dict[str, Any]:
    """What a manifest of either format says of its first segment."""
    return values["segments"][0] if "segments" in values else values


def write_index(
    folder: Path,
    vectors: np.ndarray,
    *,
    factory: str = "auto",
    texts: Sequence[Passage] | None = None,
    shard_size: int = 100,
    overwrite: bool = False,
    plan: Plan = PLAN,
) -> Manifest:
    texts = passages(len(vectors)) if texts is None else texts
    folder.mkdir(exist_ok=True)
    with only_writer(folder):
        writer = IndexWriter(folder, plan, resume=False, overwrite=overwrite)
        for start in range(0, len(vectors), shard_size):
            part = slice(start, start + shard_size)
            writer.add_shard(list(texts[part]), vectors[part], truncated=1)
        return writer.publish(encoder=ENCODER, factory=factory, skipped=2, created_by={})


def change_index(
    folder: Path,
    added: Sequence[Passage] = (),
    vectors: np.ndarray | None = None,
    *,
    deleted: Sequence[str] = (),
    compact: bool = False,
    factory: str = "auto",
    shard_size: int = 100,
) -> Manifest:
    """Commit one change: ids of `deleted` and those that are added again are deleted."""
    with only_writer(folder), IndexChange(folder) as change:
        if compact:
            change.move_all(shard_size)
        rows = change.find([*deleted, *(passage.id for passage in added)])
        for start in range(0, len(added), shard_size):
            part = slice(start, start + shard_size)
            change.add_shard(added[part], vectors[part], truncated=0)
        change.delete(rows[rows >= 0])
        return change.commit(factory=factory)
