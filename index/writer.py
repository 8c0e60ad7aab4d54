"""Build an index: shards one by one, then the FAISS file, then the manifest.

Enters: batches of passages with their vectors. Leaves: a published index. Everything is written
into `building/` inside the index's folder, so that an index already there stays whole and can be
searched until one rename publishes the new one, and a killed build goes on from its last shard.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from index.dense_index import FAISS_FILE
from index.faiss_index import build_faiss, choose_factory, recall_at_10
from index.files import sha256_of, sync_folder, write_atomic
from index.manifest import MANIFEST, EncoderRecord, Manifest, ShardRecord
from index.records import Passage
from index.shards import VectorTable, read_passages, write_shard

BUILDING = "building"
_PLAN = "plan.json"
_RECALL_QUERIES = 100


class IndexWriter:
    """One build into `folder`; the caller holds `only_writer(folder)`."""

    def __init__(
        self, folder: Path, plan: Mapping[str, Any], *, resume: bool, overwrite: bool
    ) -> None:
        """Start a build, or go on with one.

        `plan` is all that decides the result (corpus, encoder, settings). Raises `ValueError`
        when the folder holds an index or an unfinished build and neither option says what to
        do, or when the unfinished build had another plan.
        """
        self.folder = folder
        self._building = folder / BUILDING
        self._plan = dict(plan)
        self.shards: list[ShardRecord] = []
        self._checked = 0
        # A build that was killed before its first shard leaves nothing that is worth a question.
        unfinished = self._record_path(0).exists()
        if (folder / MANIFEST).exists() and not overwrite and not (resume and unfinished):
            raise ValueError(f"{folder} already holds an index; --overwrite replaces it")
        if unfinished and not resume and not overwrite:
            raise ValueError(
                f"{folder} holds an unfinished build; --resume goes on with it, "
                f"--overwrite starts again"
            )
        if unfinished and resume:
            self._check_plan()
            self.shards = self._finished_shards()
        else:
            shutil.rmtree(self._building, ignore_errors=True)
            self._building.mkdir(parents=True)
            text = json.dumps(self._plan, indent=2, sort_keys=True)
            write_atomic(self._building / _PLAN, lambda path: path.write_text(text))

    def already_written(self, number: int, passages: list[Passage]) -> bool:
        """Whether shard `number` was finished by the build that this one resumes.

        Raises `ValueError` when it was, but from other passages: the corpus has changed.
        """
        if number >= len(self.shards):
            return False
        shard = self.shards[number]
        if read_passages(self._building / shard.passages) != passages:
            raise self._corpus_changed(number)
        self._checked = number + 1
        return True

    def add_shard(self, passages: list[Passage], vectors: np.ndarray, truncated: int) -> None:
        """Write the next shard; once this returns, a killed build will not do it again."""
        number = len(self.shards)
        shard = write_shard(self._building, number, passages, vectors, truncated)
        text = json.dumps(asdict(shard))
        write_atomic(self._record_path(number), lambda path: path.write_text(text))
        self.shards.append(shard)
        self._checked = len(self.shards)

    def publish(
        self, *, encoder: EncoderRecord, factory: str, skipped: int, created_by: Mapping[str, str]
    ) -> Manifest:
        """Build the FAISS file, then make all of it the index in `folder`.

        Raises `ValueError` for an empty corpus, one that lacks passages the resumed build had, or
        a factory string FAISS does not know.
        """
        if self._checked < len(self.shards):
            raise self._corpus_changed(self._checked)
        passages = sum(shard.rows for shard in self.shards)
        if not passages:
            shutil.rmtree(self._building)
            raise ValueError(f"the corpus {self._plan.get('corpus')!r} has no passages")
        factory = choose_factory(passages, encoder.dimension, factory)
        vectors = VectorTable(self._building, self.shards)
        built = build_faiss(factory, encoder.dimension, vectors)
        write_atomic(self._building / FAISS_FILE, lambda path: faiss.write_index(built, str(path)))
        recall, queries = recall_at_10(built, factory, vectors, _RECALL_QUERIES)
        manifest = Manifest(
            corpus=str(self._plan["corpus"]),
            encoder=encoder,
            metric="inner_product",
            faiss_factory=factory,
            faiss_sha256=sha256_of(self._building / FAISS_FILE),
            passages=passages,
            truncated=sum(shard.truncated for shard in self.shards),
            skipped=skipped,
            recall_at_10=recall,
            recall_queries=queries,
            shards=tuple(self.shards),
            settings=dict(self._plan["settings"]),
            created_by=dict(created_by),
            data=_next_data(self.folder),
        )
        data = self._building.rename(self.folder / manifest.data)
        sync_folder(self.folder)
        manifest.write(self.folder)
        # The old data goes last: until the manifest's rename it was the index.
        for leftover in [*data.glob("shard-*.json"), data / _PLAN]:
            leftover.unlink()
        for old in self.folder.glob("data-*"):
            if old.name != manifest.data:
                shutil.rmtree(old)
        return manifest

    def _corpus_changed(self, number: int) -> ValueError:
        return ValueError(
            f"the corpus has changed since the unfinished build in {self.folder} began "
            f"(shard {number} differs); --overwrite starts again"
        )

    def _check_plan(self) -> None:
        try:
            planned = json.loads((self._building / _PLAN).read_text())
        except (OSError, json.JSONDecodeError):
            raise ValueError(
                f"the unfinished build in {self.folder} can't be resumed; --overwrite starts again"
            ) from None
        wanted = json.loads(json.dumps(self._plan))
        differing = sorted(key for key in planned | wanted if planned.get(key) != wanted.get(key))
        if differing:
            raise ValueError(
                f"the unfinished build in {self.folder} had another {', '.join(differing)}; "
                f"repeat its options with --resume, or start again with --overwrite"
            )

    def _finished_shards(self) -> list[ShardRecord]:
        shards: list[ShardRecord] = []
        while (path := self._record_path(len(shards))).exists():
            shard = ShardRecord(**json.loads(path.read_text()))
            for name, digest in (
                (shard.vectors, shard.vectors_sha256),
                (shard.passages, shard.passages_sha256),
            ):
                file = self._building / name
                if not file.is_file() or sha256_of(file) != digest:
                    return shards
            shards.append(shard)
        return shards

    def _record_path(self, number: int) -> Path:
        return self._building / f"shard-{number:05d}.json"


def _next_data(folder: Path) -> str:
    numbers = [int(old.name.removeprefix("data-")) for old in folder.glob("data-*")]
    return f"data-{max(numbers, default=0) + 1:04d}"
