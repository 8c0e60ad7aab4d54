"""Indexes over random unit vectors, written as a build writes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq

from index.dense_index import DenseIndex
from index.disk.files import only_writer, sha256_of
from index.manifest.formats import FORMAT_VERSION, digest_of
from index.manifest.manifest import MANIFEST, EncoderRecord, Manifest
from index.manifest.plan import Plan
from index.manifest.segments import ID_ROWS_FILE, IDS_FILE
from index.records import Passage
from index.writing.change import IndexChange
from index.writing.writer import IndexWriter

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


def dated(texts: Sequence[Passage]) -> list[Passage]:
    """The same passages with a year each, which makes a file more of every shard."""
    return [text._replace(metadata={"year": 2000 + n}) for n, text in enumerate(texts)]


def write_values(folder: Path, values: dict[str, Any]) -> None:
    """Write what a manifest holds, its digest made anew, as any program could."""
    if values.pop("sha256", None):
        values |= {"sha256": digest_of(values)}
    (folder / MANIFEST).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def as_format(folder: Path, version: int) -> None:
    """Make an index whose settings are plain what earlier versions wrote."""
    if version == FORMAT_VERSION:
        return
    values = json.loads((folder / MANIFEST).read_text())
    del values["sha256"]
    assert (values.pop("lexical"), values.pop("columns")) == ("off", [])
    for segment in values["segments"]:
        data = folder / segment["data"]
        for name in (IDS_FILE, ID_ROWS_FILE):
            (data / name).unlink()
        del segment["ids"], segment["vectors"], segment["recall_asked"]
        assert segment.pop("words") == []
        for shard in segment["shards"]:
            path = data / shard["passages"]
            pq.write_table(pq.read_table(path), path, row_group_size=256, compression="zstd")
            shard["passages_sha256"] = sha256_of(path)
            assert shard.pop("metadata_sha256") is None
            del shard["rows_per_group"], shard["score_shift_max"], shard["score_shift_mean"]
    values["format_version"] = version
    if version == 1:  # before an index could be changed
        (segment,) = values.pop("segments")
        assert (segment.pop("deleted"), values.pop("deleted"), values.pop("changes")) == (
            None,
            0,
            0,
        )
        assert segment["data"].endswith(f"-{values.pop('last_data'):04d}")
        values |= segment | {"format_version": 1}
    write_values(folder, values)


def segment_of(values: dict[str, Any]) -> dict[str, Any]:
    """What a manifest of any format says of its first segment."""
    return values["segments"][0] if "segments" in values else values


def write_index(
    folder: Path,
    vectors: np.ndarray,
    *,
    factory: str = "auto",
    texts: Sequence[Passage] | None = None,
    shard_size: int = 100,
    resume: bool = False,
    overwrite: bool = False,
    plan: Plan = PLAN,
    lexical: str = "off",
) -> Manifest:
    texts = passages(len(vectors)) if texts is None else texts
    folder.mkdir(exist_ok=True)
    with only_writer(folder):
        writer = IndexWriter(folder, plan, resume=resume, overwrite=overwrite)
        for number, start in enumerate(range(0, len(vectors), shard_size)):
            part = slice(start, start + shard_size)
            if not writer.already_written(number, list(texts[part])):
                writer.add_shard(list(texts[part]), vectors[part], truncated=1)
        return writer.publish(
            encoder=ENCODER, factory=factory, skipped=2, created_by={}, lexical=lexical
        )


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


def touched(index: DenseIndex) -> DenseIndex:
    """`index`, after every file of it was read."""
    (hits,) = index.search(unit_vectors(1), len(index))
    ids = [hit.id for hit in hits]
    index.passages(ids)
    index.cosines(unit_vectors(1)[0], ids)
    return index
