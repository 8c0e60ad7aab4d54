"""Change an index in Milvus: put passages in, replace them, delete them.

Enters: shards of passages and the encoder that made the index, or ids. Leaves: the rows in Milvus,
and their number in the manifest. Each shard is a call of its own: a search in between sees what is
in so far, and what a kill leaves is in too. Repeated as an update, a change comes to the same end.

    delete_in_milvus(Path("my-index"), ["p7"])
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from index.records import Passage
from retrieval.encoder import Encoder
from retrieval.milvus.collection import Collection
from retrieval.milvus.manifest import MilvusManifest


class MilvusChange(NamedTuple):
    """What was done, in passages, and the manifest that it left."""

    manifest: MilvusManifest
    added: int = 0
    replaced: int = 0
    deleted: int = 0
    unknown: int = 0


def write_in_milvus(
    folder: Path, shards: Iterable[list[Passage]], encoder: Encoder, *, replacing: bool
) -> MilvusChange:
    """Encode passages and put them in; the caller holds `only_writer(folder)`.

    Raises `ValueError`, before its shard goes in, for an id that is there already, unless
    `replacing`.
    """
    manifest = MilvusManifest.read(folder)
    collection = _collection(folder, manifest)
    added = replaced = truncated = 0
    try:
        for passages in shards:
            there = collection.rows([passage.id for passage in passages])
            if there and not replacing:
                raise ValueError(
                    f"the index in {folder} has a passage {next(iter(there))!r} already; `update` "
                    f"replaces it"
                )
            vectors, cut = encoder.encode_passages(passages)
            collection.upsert(passages, vectors)
            added, replaced = added + len(passages) - len(there), replaced + len(there)
            truncated += cut
    finally:
        if added or replaced:
            manifest = _counted(folder, manifest, collection, truncated)
    return MilvusChange(manifest, added, replaced)


def delete_in_milvus(
    folder: Path, ids: Sequence[str], *, ignore_unknown: bool = False
) -> MilvusChange:
    """Delete the passages of those ids; the caller holds `only_writer(folder)`.

    Raises `ValueError`, and deletes nothing, for an id that is not there, unless `ignore_unknown`.
    """
    manifest = MilvusManifest.read(folder)
    collection = _collection(folder, manifest)
    there = collection.rows(ids)
    unknown = [id_ for id_ in ids if id_ not in there]
    if unknown and not ignore_unknown:
        raise ValueError(
            f"the index in {folder} has no passage {unknown[0]!r} (of {len(unknown)} unknown ids; "
            f"--ignore-unknown passes them over)"
        )
    if there:
        collection.delete(list(there))
        manifest = _counted(folder, manifest, collection, 0)
    return MilvusChange(manifest, deleted=len(there), unknown=len(unknown))


def _collection(folder: Path, manifest: MilvusManifest) -> Collection:
    return Collection(manifest.target.address(folder), manifest.collection)


def _counted(
    folder: Path, manifest: MilvusManifest, collection: Collection, truncated: int
) -> MilvusManifest:
    manifest = replace(
        manifest,
        passages=len(collection),
        truncated=manifest.truncated + truncated,
        changes=manifest.changes + 1,
    )
    manifest.write(folder)
    return manifest
