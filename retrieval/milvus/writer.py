"""Build an index in Milvus: the same loop as any build, shards go into a collection.

Enters: shards of passages with their vectors. Leaves: a new collection and the manifest that names
it. An index that is replaced stays, and can be searched, until then. A killed build goes on from
its last whole shard: what it had put in of the next is put in again, in the same place.

    build_in_milvus("pydoc", Path("my-index"), IndexSettings(), MilvusTarget("http://host:19530"))
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from index.dense.kinds import AUTO
from index.disk.files import LOCK, write_atomic
from index.disk.schema import from_json, read_json
from index.manifest.manifest import MANIFEST, EncoderRecord
from index.manifest.plan import BUILDING, FLOAT32, PLAN, Plan, read_plan
from index.manifest.segments import ShardRecord, shard_files
from index.records import Passage
from index.writing.folder import record_of
from retrieval.build import IndexSettings, created_by, encoded
from retrieval.corpora.records import Skipped
from retrieval.engines.choice import LOCAL, RAY
from retrieval.milvus.collection import Collection, require_pymilvus
from retrieval.milvus.manifest import MilvusManifest, MilvusTarget, is_in_milvus

_COLLECTION = "collection.json"


def build_in_milvus(
    corpus: str,
    folder: Path,
    settings: IndexSettings,
    target: MilvusTarget,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    workers: int | None = None,
    engine: str = LOCAL,
    skipped: Skipped | None = None,
) -> MilvusManifest:
    """Build the index of `corpus` in Milvus; `folder` says afterwards where it is.

    Options as for `build_index`. Raises `ValueError` as that does, and where Milvus does not answer
    or refuses the index type.
    """
    if settings.faiss != AUTO:
        raise ValueError("--faiss is for an index of files; Milvus takes --index-type")
    if settings.keep:
        raise ValueError("--keep is for an index of files; in Milvus no fields are kept")
    if settings.vectors != FLOAT32:
        raise ValueError("--vectors is for an index of files; Milvus stores them as its type asks")
    if engine == RAY and target.is_lite:
        raise ValueError("Milvus Lite is open to one process alone: with Ray, name a server's URI")
    require_pymilvus()
    _claim(folder, target, resume=resume, overwrite=overwrite)
    skipped = Skipped() if skipped is None else skipped

    def begin(encoder: EncoderRecord) -> MilvusWriter:
        _tidy(folder)
        _claim(folder, target, resume=resume, overwrite=overwrite)
        recorded = settings.recorded() | {"milvus": asdict(target)}
        plan = Plan(corpus, encoder.fingerprint, recorded)
        return MilvusWriter(folder, plan, target, encoder, resume=resume)

    with encoded(
        corpus, folder, settings, begin, device=device, workers=workers, engine=engine,
        skipped=skipped,
    ) as (writer, _):  # fmt: skip
        return writer.publish(skipped=skipped.count, created_by=created_by())


class UpsertShard(NamedTuple):
    """Puts a shard into a collection, from whatever process."""

    address: str
    collection: str

    def __call__(
        self, number: int, passages: Sequence[Passage], vectors: np.ndarray, truncated: int
    ) -> ShardRecord:
        """Put shard `number` in; its digests are those of what went in."""
        Collection(self.address, self.collection).upsert(passages, vectors)
        digest = hashlib.sha256(np.ascontiguousarray(vectors, np.float32).tobytes()).hexdigest()
        vectors_file, passages_file, _ = shard_files(number)
        return ShardRecord(
            vectors_file, passages_file, len(passages), truncated, digest, _digest(passages)
        )


class MilvusWriter:
    """One build into a collection; the caller holds `only_writer(folder)`."""

    finished = None

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        target: MilvusTarget,
        encoder: EncoderRecord,
        *,
        resume: bool,
    ) -> None:
        """Start a build, or go on with one; raises `ValueError` when that had another plan."""
        self._folder = folder
        self._plan = plan
        self._target = target
        self._encoder = encoder
        self._address = target.address(folder)
        self._place = folder / BUILDING
        self.shards: list[ShardRecord] = []
        self._checked = 0
        if resume and (begun := read_plan(self._place)):
            if differing := plan.differing(begun):
                raise ValueError(
                    f"the unfinished build in {folder} had another {differing}; repeat its options "
                    f"with --resume, or start again with --overwrite"
                )
            collection = _begun(folder)
            assert collection
            self._collection = collection.collection
            while (path := record_of(self._place, len(self.shards))).exists():
                self.shards.append(from_json(ShardRecord, read_json(path), f"{path}: "))
        else:
            self._drop_unfinished()
            self._collection = f"blockseek_{secrets.token_hex(8)}"
            self._place.mkdir(exist_ok=True)
            old = MilvusManifest.read(folder) if is_in_milvus(folder) else None
            # First: what a kill leaves from here on is known to be ours, and by which name.
            _write_json(self._place / _COLLECTION, asdict(_Begun(self._collection, target, old)))
            _write_json(self._place / PLAN, asdict(plan))
        if not self.shards:
            Collection.create(self._address, self._collection, encoder.dimension)

    def already_written(self, number: int, passages: list[Passage]) -> bool:
        """Whether shard `number` was put in by the build that this one resumes.

        Raises `ValueError` when it was, but of other passages: the corpus has changed.
        """
        if number >= len(self.shards):
            return False
        if self.shards[number].passages_sha256 != _digest(passages):
            raise self._corpus_changed(number)
        self._checked = number + 1
        return True

    @property
    def write(self) -> UpsertShard:
        """Puts a shard in; then `accept`."""
        return UpsertShard(self._address, self._collection)

    def stage(self) -> UpsertShard:
        """The same: a row that is put in twice is there once."""
        return self.write

    def accept(self, shard: ShardRecord) -> None:
        """Record that the next shard is in: the build will not do it again."""
        _write_json(record_of(self._place, len(self.shards)), asdict(shard))
        self.shards.append(shard)
        self._checked = len(self.shards)

    def publish(self, *, skipped: int, created_by: Mapping[str, str]) -> MilvusManifest:
        """Let Milvus build its index, then make the collection the index of the folder.

        Raises `RuntimeError` when Milvus holds another number of passages than were put in, or
        built another index than it was asked for.
        """
        if self._checked < len(self.shards):
            raise self._corpus_changed(self._checked)
        collection = Collection(self._address, self._collection)
        passages = sum(shard.rows for shard in self.shards)
        if len(collection) != passages:
            raise RuntimeError(
                f"Milvus at {self._address} holds {len(collection)} passages in "
                f"{self._collection}, {passages} were put in"
            )
        collection.build_index(self._target.index_type)
        manifest = MilvusManifest(
            corpus=self._plan.corpus,
            target=self._target,
            collection=self._collection,
            encoder=self._encoder,
            passages=passages,
            truncated=sum(shard.truncated for shard in self.shards),
            skipped=skipped,
            settings={name: x for name, x in self._plan.settings.items() if name != "milvus"},
            created_by=dict(created_by),
        )
        manifest.write(self._folder)
        _tidy(self._folder)
        return manifest

    def _drop_unfinished(self) -> None:
        """Leave nothing of a build that is not gone on with."""
        if begun := _begun(self._folder):
            Collection.drop(begun.target.address(self._folder), begun.collection)
            shutil.rmtree(self._place)

    def _corpus_changed(self, number: int) -> ValueError:
        return ValueError(
            f"the corpus has changed since the unfinished build in {self._folder} began (shard "
            f"{number} differs); --overwrite starts again"
        )


@dataclass(frozen=True)
class _Begun:
    """An unfinished build: the collection that it fills, and the index that this is to replace."""

    collection: str
    target: MilvusTarget
    replaces: MilvusManifest | None


def _begun(folder: Path) -> _Begun | None:
    path = folder / BUILDING / _COLLECTION
    return from_json(_Begun, read_json(path), f"{path}: ") if path.is_file() else None


def _tidy(folder: Path) -> None:
    """Delete what a build leaves once its collection is the index, and what that replaced."""
    begun = _begun(folder)
    if begun and is_in_milvus(folder):
        if MilvusManifest.read(folder).collection != begun.collection:
            return
        if old := begun.replaces:
            Collection.drop(old.target.address(folder), old.collection)
        shutil.rmtree(folder / BUILDING)


def _claim(folder: Path, target: MilvusTarget, *, resume: bool, overwrite: bool) -> None:
    """Raise `ValueError` for a folder that holds anything but what this build may replace."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder as --out")
    if (folder / MANIFEST).exists():
        raise ValueError(f"{folder} holds an index of files; name another folder as --out")
    begun = _begun(folder)
    if begun and record_of(folder / BUILDING, 0).exists() and not (resume or overwrite):
        raise ValueError(
            f"{folder} holds an unfinished build; --resume goes on with it, --overwrite starts "
            f"again"
        )
    if is_in_milvus(folder):
        if resume and not begun:
            raise ValueError(f"the index in {folder} is whole: there is nothing to resume")
        if not (resume or overwrite):
            raise ValueError(f"{folder} already holds an index; --overwrite replaces it")
    elif not begun and folder.exists():
        if (building := folder / BUILDING).is_dir() and not any(building.iterdir()):
            building.rmdir()  # killed at its first step
        strangers = sorted(path for path in folder.iterdir() if path.name not in (LOCK, target.uri))
        if strangers:
            raise ValueError(
                f"{strangers[0]} is in the way: no build of an index wrote it, and nothing was "
                f"touched; move it, or name another folder as --out"
            )


def _digest(passages: Sequence[Passage]) -> str:
    return hashlib.sha256(json.dumps([passage[:3] for passage in passages]).encode()).hexdigest()


def _write_json(path: Path, value: object) -> None:
    write_atomic(path, lambda file: file.write(json.dumps(value).encode()))
