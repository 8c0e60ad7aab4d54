"""Check an index against its manifest: every digest, every count, recall measured again.

Enters: the folder of an index. Leaves: a list of faults, empty when it is whole.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from index.faiss_index import read_faiss, recall_at_10
from index.files import file_of, sha256_of
from index.manifest import FAISS_FILE, Manifest
from index.shards import PassageStore, VectorTable

# What half precision leaves of a length of one.
_ROUNDING = 0.01


class Verification(NamedTuple):
    """What `verify` found: `faults` in words, and recall@10 measured now (NaN when damaged)."""

    faults: list[str]
    recall_at_10: float


def verify(folder: Path) -> Verification:
    """Recompute the digests and the recall of the index in `folder`.

    Raises `ValueError` when its manifest is none, or contradicts itself.
    """
    manifest = Manifest.read(folder)
    data = folder / manifest.data
    faults = [fault for name in manifest.digests if (fault := _fault(data, manifest, name))]
    if faults:
        return Verification(faults, float("nan"))
    try:
        recall = _read_through(data, manifest)
    except ValueError as error:
        return Verification([str(error)], float("nan"))
    return Verification([], recall)


def _fault(data: Path, manifest: Manifest, name: str) -> str:
    try:
        same = sha256_of(file_of(data, name)) == manifest.digests[name]
    except ValueError as error:
        return str(error)
    return "" if same else f"{name} has changed"


def _read_through(data: Path, manifest: Manifest) -> float:
    """Recall@10 measured again; raises `ValueError` where a file is not what it should be."""
    dimension = manifest.encoder.dimension
    vectors = VectorTable(data, manifest.shards, dimension)
    built = read_faiss(data, FAISS_FILE, dimension, manifest.passages)
    store = PassageStore(data, manifest.shards)
    store.ids()
    for _ in store:  # each can be read
        pass
    for shard, part in zip(manifest.shards, vectors.parts, strict=True):
        if not (np.linalg.norm(part, axis=1) < 1 + _ROUNDING).all():
            raise ValueError(f"{shard.vectors} holds vectors longer than one, or NaN")
    return recall_at_10(built, manifest.faiss_factory, vectors, manifest.recall_queries)[0]
