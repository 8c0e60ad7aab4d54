"""Change an index without building it again: add passages, replace them, delete them, compact.

Enters: the folder of an index, and a corpus or ids. Leaves: the index's next state, committed by
one rename, and what was done to it. Memory holds one shard of passages and the ids of the index.
Where the index is one of chunks, ids and passages of a change are those of documents: all chunks of
a document come and go together.

    add_passages(Path("my-index"), [Passage("p9", "Bees", "Borage feeds bees.")])
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.formats.checks import as_list, text_fault
from index.dense.kinds import AUTO
from index.disk.files import only_writer
from index.manifest.columns import Columns
from index.manifest.manifest import Manifest
from index.manifest.words import check_lexical
from index.records import Passage
from index.writing.change import IndexChange
from retrieval.build import IndexSettings, created_by
from retrieval.change_source import How, open_source, settings_of
from retrieval.chunks import DocumentRows, by_document
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Skipped
from retrieval.encoder import Encoder
from retrieval.milvus.changes import delete_in_milvus, write_in_milvus
from retrieval.milvus.manifest import MilvusManifest, is_in_milvus
from retrieval.progress import encoding_progress
from retrieval.refused import already_there, unknown_ids


class Changed(NamedTuple):
    """What a change did, in passages, and the manifest that it left.

    `deleted` were live and are gone without a replacement; `unknown` ids were passed over;
    `dropped` had been deleted before and took up place until now. `merged` counts segments. Of an
    index of chunks documents are counted, and chunks where they are `dropped`.
    """

    manifest: Manifest | MilvusManifest
    added: int = 0
    replaced: int = 0
    deleted: int = 0
    skipped: int = 0
    unknown: int = 0
    dropped: int = 0
    merged: int = 0


def add_passages(
    folder: Path | str,
    corpus: str | Iterable[Passage],
    *,
    encoder: str | Encoder | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
    skipped: Skipped | None = None,
) -> Changed:
    """Add the passages of `corpus` (as `build_index` takes one, or passages) to the index.

    They are encoded by the encoder that built the index, in the shards that it was built in, and
    become one new segment. The fields that the index keeps are taken from them, None where they
    lack one. Where the index is one of chunks, what is added are documents, cut as the build cut.
    No more than `limit` of either are read. With `skipped`, bad records are left out and
    counted there. Raises `ValueError`, and adds nothing, for an id that is live already, for what
    `build_index` refuses, for another encoder, and while another process writes.
    """
    return _write(folder, corpus, How(False, encoder, device, batch_size, limit, skipped))


def update_passages(
    folder: Path | str,
    corpus: str | Iterable[Passage],
    *,
    encoder: str | Encoder | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
    skipped: Skipped | None = None,
) -> Changed:
    """As `add_passages`, but a passage whose id is live already takes that one's place.

    One commit adds the new passages and deletes the old ones: no search sees both, or neither. Of a
    document all chunks are replaced, wherever it was cut before.
    """
    return _write(folder, corpus, How(True, encoder, device, batch_size, limit, skipped))


def delete_passages(
    folder: Path | str, ids: Iterable[str], *, ignore_unknown: bool = False
) -> Changed:
    """Delete the passages, or the documents, of those ids; an id that comes twice counts once.

    Nothing is encoded and no vector is read: a bit of each row is written. The rows take up place
    until `compact_index`. Raises `ValueError`, and deletes nothing, for an id that no live passage
    has, unless `ignore_unknown` counts it; and while another process writes.
    """
    folder = Path(folder)
    wanted = list(dict.fromkeys(as_list("ids", ids, "a list of strings")))
    for id_ in wanted:
        if not isinstance(id_, str):
            raise TypeError(f"the id is {id_!r:.80}, wanted a string")
        if fault := text_fault(id_):
            raise ValueError(f"the id {id_!r} has {fault}")
    if is_in_milvus(folder):
        with only_writer(folder):
            kind = settings_of(folder, MilvusManifest.read(folder)).kind
            done = delete_in_milvus(folder, wanted, kind=kind, ignore_unknown=ignore_unknown)
            return Changed(**done._asdict())
    Manifest.read(folder)
    with only_writer(folder), IndexChange(folder) as change:
        settings = settings_of(folder, change.manifest)
        live = _Live(change, settings).rows(wanted)
        unknown = [id_ for id_ in wanted if id_ not in live]
        if unknown and not ignore_unknown:
            raise unknown_ids(folder, unknown, settings.kind)
        if live:
            change.delete(_rows(live))
            change.commit()
    return Changed(change.manifest, deleted=len(live), unknown=len(unknown))


def compact_index(
    folder: Path | str, *, faiss: str | None = None, lexical: str | None = None
) -> Changed:
    """Copy all live passages into one new segment, and drop what was deleted for good.

    Vectors are copied, not encoded. `faiss` is a FAISS factory string; by default that of the
    build, which is chosen by size unless it was named. `lexical` is the analyser of the lexical leg
    from now on, or `off`; by default the one it has. An index of one segment of that kind, with
    nothing deleted and that analyser, is left as it is. Raises `ValueError` for files that have
    changed since they were written, a factory string that FAISS can't build, and while another
    process writes.
    """
    folder = Path(folder)
    if is_in_milvus(folder):
        raise ValueError(f"the index in {folder} lies in Milvus, which compacts by itself")
    if lexical is not None:
        check_lexical(lexical)
    Manifest.read(folder)
    with only_writer(folder), IndexChange(folder) as change:
        before = change.manifest
        settings = settings_of(folder, before)
        kinds = [segment.faiss_factory for segment in before.segments]
        merged = 0
        others = faiss is not None and kinds not in ([], [faiss])
        others |= lexical not in (None, before.lexical)
        if before.deleted or len(kinds) > 1 or others:
            merged = len(kinds)
            change.move_all(settings.shard_size)
            change.commit(
                factory=faiss or settings.faiss,
                created_by=created_by(),
                lexical=lexical,
                deterministic=settings.deterministic,
            )
    return Changed(change.manifest, dropped=before.deleted, merged=merged)


def _write(folder: Path | str, corpus: str | Iterable[Passage], how: How) -> Changed:
    folder = Path(folder)
    write = _write_in_milvus if is_in_milvus(folder) else _write_in_files
    return write(folder, corpus, how)


def _write_in_files(folder: Path, corpus: str | Iterable[Passage], how: How) -> Changed:
    Manifest.read(folder)  # before a lock is left in a folder that is none
    with only_writer(folder), IndexChange(folder) as change:
        reading = Reading(Columns(known=change.manifest.columns), limit=how.limit)
        source = open_source(folder, change.manifest, corpus, how, reading)
        added = replaced = 0
        lived = _Live(change, source.settings)

        def records() -> Iterator[Passage]:
            nonlocal added, replaced
            for batch in source.batches():
                ids = [record.id for record in batch]
                live = lived.rows(ids)
                if live and not how.replacing:
                    id_ = next(id_ for id_ in ids if id_ in live)
                    raise already_there(folder, id_, source.settings.kind)
                change.delete(_rows(live))
                added, replaced = added + len(batch) - len(live), replaced + len(live)
                yield from batch

        with encoding_progress(reading) as advance:
            for shard in source.shards(records()):
                change.add_shard(shard, *source.encoder.encode_passages(shard))
                advance(len(shard))
        change.commit(
            factory=AUTO,
            skipped=source.skipped,
            deterministic=source.settings.deterministic,
        )
    return Changed(change.manifest, added, replaced, skipped=source.skipped)


def _write_in_milvus(folder: Path, corpus: str | Iterable[Passage], how: How) -> Changed:
    with only_writer(folder):
        manifest = MilvusManifest.read(folder)
        source = open_source(folder, manifest, corpus, how, Reading(limit=how.limit))
        done = write_in_milvus(
            folder,
            source.batches(),
            source.shards,
            source.encoder,
            kind=source.settings.kind,
            replacing=how.replacing,
        )
    return Changed(**done._asdict(), skipped=source.skipped)


class _Live:
    """What was live in an index before a change: passages, or the documents whose chunks are."""

    def __init__(self, change: IndexChange, settings: IndexSettings) -> None:
        self._change = change
        self._chunked = settings.cut is not None

    def rows(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """The rows of those of `ids` that are live: a passage's one, all of a document's."""
        if self._chunked:
            rows = self._documents.of(ids)
            named = zip(rows.tolist(), self._change.ids_of(rows), strict=True)
            return by_document(named, set(ids))
        rows = self._change.find(ids)
        return {id_: [row] for id_, row in zip(ids, rows.tolist(), strict=True) if row >= 0}

    @cached_property
    def _documents(self) -> DocumentRows:
        return DocumentRows(self._change.live_ids())


def _rows(live: Mapping[str, Sequence[int]]) -> np.ndarray:
    return np.array([row for rows in live.values() for row in rows], np.int64)
