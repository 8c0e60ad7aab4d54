"""Change an index in Milvus: put passages in, replace them, delete them.

Enters: shards of passages and the encoder that made the index, or ids. Leaves: the rows in Milvus,
and their number in the manifest. Each shard is a call of its own: a search in between sees what is
in so far, and what a kill leaves is in too. Repeated as an update, a change comes to the same end.

    delete_in_milvus(Path("my-index"), ["p7"])
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from index.records import Passage
from retrieval.chunks import by_document
from retrieval.encoder import Encoder
from retrieval.milvus.collection import Collection
from retrieval.milvus.manifest import MilvusManifest
from retrieval.refused import PASSAGE, already_there, unknown_ids


class MilvusChange(NamedTuple):
    """What was done, in passages, and the manifest that it left."""

    manifest: MilvusManifest
    added: int = 0
    replaced: int = 0
    deleted: int = 0
    unknown: int = 0


def write_in_milvus(
    folder: Path,
    batches: Iterable[list[Passage]],
    shards: Callable[[Iterable[Passage]], Iterator[list[Passage]]],
    encoder: Encoder,
    *,
    kind: str,
    replacing: bool,
) -> MilvusChange:
    """Encode passages and put them in; the caller holds `only_writer(folder)`.

    They come in `batches` of records, of the `kind` passage or document, of which `shards` makes
    what goes in. What a replaced document has left goes once its batch is in: a kill between leaves
    some, which the same update finds again. Raises `ValueError`, before its batch goes in, for an
    id that is there already, unless `replacing`.
    """
    manifest = MilvusManifest.read(folder)
    collection = _collection(folder, manifest)
    added = replaced = truncated = 0
    changed = False
    try:
        for records in batches:
            there = _there(collection, [record.id for record in records], kind)
            if there and not replacing:
                raise already_there(folder, next(iter(there)), kind)
            left = {id_ for ids in there.values() for id_ in ids}
            for passages in shards(records):
                vectors, cut = encoder.encode_passages(passages)
                collection.upsert(passages, vectors)
                changed = True
                left -= {passage.id for passage in passages}
                truncated += cut
            collection.delete(sorted(left))
            added, replaced = added + len(records) - len(there), replaced + len(there)
    finally:
        if changed:
            manifest = _counted(folder, manifest, collection, truncated)
    return MilvusChange(manifest, added, replaced)


def delete_in_milvus(
    folder: Path, ids: Sequence[str], *, kind: str, ignore_unknown: bool = False
) -> MilvusChange:
    """Delete the passages, or documents, of those ids; the caller holds `only_writer(folder)`.

    Raises `ValueError`, and deletes nothing, for an id that is not there, unless `ignore_unknown`.
    """
    manifest = MilvusManifest.read(folder)
    collection = _collection(folder, manifest)
    there = _there(collection, ids, kind)
    unknown = [id_ for id_ in ids if id_ not in there]
    if unknown and not ignore_unknown:
        raise unknown_ids(folder, unknown, kind)
    if there:
        collection.delete([id_ for ids in there.values() for id_ in ids])
        manifest = _counted(folder, manifest, collection, 0)
    return MilvusChange(manifest, deleted=len(there), unknown=len(unknown))


def _there(collection: Collection, ids: Sequence[str], kind: str) -> dict[str, list[str]]:
    """Of each of `ids` that is there, its passages' ids: its own, or those of its chunks."""
    if kind == PASSAGE:
        return {id_: [id_] for id_ in collection.rows(ids)}
    found = collection.ids_starting(f"{id_}#" for id_ in ids)
    return by_document(((id_, id_) for id_ in found), set(ids))


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
