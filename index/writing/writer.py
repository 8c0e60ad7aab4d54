"""Build an index: shards one by one, then the FAISS file, then the manifest.

Enters: batches of passages with their vectors. Leaves: a published index. Everything is written
into `building/` inside the index's folder, so that an index already there stays whole and can be
searched until one rename publishes the new one, and a killed build goes on from its last shard.

Publication has four steps, and a build killed behind any of them is resumed: the manifest of an
index that is replaced is kept beside the new data, `building` takes the name of data, the manifest
names it, and what was replaced is deleted. The plan is deleted last.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from index.disk.files import check_digest, sync_folder, write_atomic
from index.disk.schema import from_json, read_json
from index.manifest.manifest import MANIFEST, METRIC, EncoderRecord, Manifest, counted
from index.manifest.plan import BUILDING, PLAN, Plan, read_plan
from index.manifest.segments import SegmentRecord, ShardRecord
from index.manifest.words import OFF
from index.records import Passage
from index.segment import Making, finish_segment
from index.store.metadata import columns_of
from index.store.shards import read_passages, write_shard
from index.writing.folder import REPLACED, claim, next_data, record_of, remove_build, tidy
from index.writing.journal import settle
from index.writing.staging import begin_staging, drop_staging, take_over


class IndexWriter:
    """One build into `folder`; the caller holds `only_writer(folder)`.

    `finished` is the manifest of a whole index that a resumed build found: it is compared with the
    corpus, and nothing is written.
    """

    def __init__(self, folder: Path, plan: Plan, *, resume: bool, overwrite: bool) -> None:
        """Start a build, or go on with one.

        `plan` is all that decides the result. Raises `ValueError` for a folder that `claim`
        refuses, and when what is resumed had another plan or was damaged.
        """
        self.folder = folder
        self.shards: list[ShardRecord] = []
        self.finished: Manifest | None = None
        self._plan = plan
        self._place = folder / BUILDING
        self._staging: Path | None = None
        self._checked = 0
        self._old, unfinished = claim(folder, resume=resume, overwrite=overwrite)
        if self._old:
            tidy(folder, self._old)
            settle(folder, self._old)
        if resume and unfinished:
            self._check_plan(read_plan(unfinished), "the unfinished build")
            if unfinished != self._place:  # killed before its manifest was written
                unfinished.rename(self._place)
                sync_folder(folder)
            drop_staging(self._place)
            self.shards = self._finished_shards()
            return
        remove_build(folder, self._old)
        if resume and self._old:
            self._check_plan(self._old.plan, "the index")
            segment = self._built_segment(self._old)
            self._place, self.shards = folder / segment.data, list(segment.shards)
            self.finished = self._old
            return
        self._place.mkdir(parents=True, exist_ok=True)
        _write_json(self._place / PLAN, asdict(plan), indent=2, sort_keys=True)

    def already_written(self, number: int, passages: list[Passage]) -> bool:
        """Whether shard `number` was finished by the build that this one resumes.

        Raises `ValueError` when it was, but from other passages: the corpus has changed.
        """
        if number >= len(self.shards):
            if self.finished:
                raise self._corpus_changed(number)
            return False
        if read_passages(self._place, self.shards[number]) != passages:
            raise self._corpus_changed(number)
        self._checked = number + 1
        return True

    def add_shard(self, passages: list[Passage], vectors: np.ndarray, truncated: int) -> None:
        """Write the next shard; once this returns, a killed build will not do it again."""
        self.accept(self.write(len(self.shards), passages, vectors, truncated))

    @property
    def write(self) -> Callable[..., ShardRecord]:
        """Writes a shard's files, called as `write_shard` without its folder; then `accept`."""
        return partial(write_shard, self._place, precision=self._plan.precision)

    def stage(self) -> Callable[..., ShardRecord]:
        """As `write`, for processes that may outlive this one: can be sent to them."""
        self._staging = self._staging or begin_staging(self._place.resolve())
        return partial(write_shard, self._staging, precision=self._plan.precision)

    def accept(self, shard: ShardRecord) -> None:
        """Record that the files of the next shard are written: the build will not do it again."""
        number = len(self.shards)
        if self._staging:
            take_over(self._staging, shard)
        _write_json(record_of(self._place, number), asdict(shard))
        self.shards.append(shard)
        self._checked = len(self.shards)

    def publish(
        self,
        *,
        encoder: EncoderRecord,
        factory: str,
        skipped: int,
        created_by: Mapping[str, str],
        lexical: str = OFF,
        deterministic: bool = False,
    ) -> Manifest:
        """Build the FAISS file and the lexical leg, then make all of it the index in `folder`.

        `lexical` is the analyser of that leg, or `off`; `deterministic` is as for `build_faiss`.
        Raises `ValueError` for an empty corpus, one that lacks passages the resumed build had, or a
        factory string FAISS does not know.
        """
        if self._checked < len(self.shards):
            raise self._corpus_changed(self._checked)
        if self.finished:
            return self.finished
        if not self.shards:
            remove_build(self.folder, self._old)
            raise ValueError(f"the corpus {self._plan.corpus!r} has no passages")
        drop_staging(self._place)
        data = next_data(self.folder, self._old)
        making = Making(encoder.dimension, self._plan.precision, factory, lexical, deterministic)
        segment = finish_segment(self._place, data, self.shards, making)
        manifest = Manifest(
            corpus=self._plan.corpus,
            encoder=encoder,
            metric=METRIC,
            skipped=skipped,
            segments=(segment,),
            last_data=segment.number,
            settings=self._plan.settings,
            columns=columns_of(self._place, self.shards),
            created_by=dict(created_by),
            lexical=lexical,
            **counted([segment]),
        )
        if self._old:
            kept = (self.folder / MANIFEST).read_bytes()
            write_atomic(self._place / REPLACED, lambda file: file.write(kept))
        self._place = self._place.rename(self.folder / data)
        sync_folder(self.folder)
        manifest.write(self.folder)
        tidy(self.folder, manifest)
        return manifest

    def _corpus_changed(self, number: int) -> ValueError:
        since = "index in {} was built" if self.finished else "unfinished build in {} began"
        return ValueError(
            f"the corpus has changed since the {since.format(self.folder)} (shard {number} "
            f"differs); --overwrite starts again"
        )

    def _check_plan(self, kept: Plan | None, what: str) -> None:
        assert kept
        if differing := self._plan.differing(kept):
            raise ValueError(
                f"{what} in {self.folder} had another {differing}; repeat its options with "
                f"--resume, or start again with --overwrite"
            )

    def _built_segment(self, manifest: Manifest) -> SegmentRecord:
        """The one segment of an index that nothing has changed since its build, checked."""
        if manifest.changes:
            raise ValueError(
                f"the index in {self.folder} was changed {manifest.changes} times since it was "
                f"built; --overwrite builds it again, from the corpus alone"
            )
        (segment,) = manifest.segments
        for name, digest in segment.digests.items():
            if not _is_whole(self.folder / segment.data, name, digest):
                raise ValueError(
                    f"the index in {self.folder} is damaged ({name}); --overwrite builds it again"
                )
        return segment

    def _finished_shards(self) -> list[ShardRecord]:
        shards: list[ShardRecord] = []
        while (path := record_of(self._place, len(shards))).exists():
            shard = from_json(ShardRecord, read_json(path), f"{path}: ")
            if not all(_is_whole(self._place, *pair) for pair in shard.digests.items()):
                break
            shards.append(shard)
        return shards


def _is_whole(data: Path, name: str, digest: str) -> bool:
    try:
        check_digest(data, name, digest)
    except ValueError:
        return False
    return True


def _write_json(path: Path, values: Mapping[str, Any], **options: Any) -> None:
    write_atomic(path, lambda file: file.write(json.dumps(values, **options).encode()))
