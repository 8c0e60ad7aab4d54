"""Check an index against its manifest: every digest, every count, recall measured again.

Enters: the folder of an index. Leaves: a list of faults, empty when it is whole.
"""

from pathlib import Path
from typing import NamedTuple

from index.dense_index import FAISS_FILE
from index.faiss_index import read_faiss, recall_at_10
from index.files import sha256_of
from index.manifest import Manifest
from index.shards import PassageStore, VectorTable


class Verification(NamedTuple):
    """What `verify` found: `faults` in words, and recall@10 measured now (NaN when damaged)."""

    faults: list[str]
    recall_at_10: float


def verify(folder: Path) -> Verification:
    """Recompute the digests and the recall of the index in `folder`."""
    manifest = Manifest.read(folder)
    data = folder / manifest.data
    digests = {FAISS_FILE: manifest.faiss_sha256}
    for shard in manifest.shards:
        digests |= {shard.vectors: shard.vectors_sha256, shard.passages: shard.passages_sha256}
    faults = [
        f"{name} is missing" if not (data / name).is_file() else f"{name} has changed"
        for name, digest in digests.items()
        if not (data / name).is_file() or sha256_of(data / name) != digest
    ]
    if faults:
        return Verification(faults, float("nan"))
    vectors = VectorTable(data, manifest.shards)
    built = read_faiss(data / FAISS_FILE)
    counts = {"vectors": len(vectors), "FAISS rows": built.ntotal}
    counts["passages"] = len(PassageStore(data, manifest.shards))
    faults = [
        f"{count} {name}, the manifest says {manifest.passages}"
        for name, count in counts.items()
        if count != manifest.passages
    ]
    recall, _ = recall_at_10(built, manifest.faiss_factory, vectors, manifest.recall_queries)
    return Verification(faults, recall)
