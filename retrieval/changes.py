"""Change an index without building it again: add passages, replace them, delete them, compact.

Enters: the folder of an index, and a corpus or ids. Leaves: the index's next state, committed by
one rename, and what was done to it. Memory holds one shard of passages and the ids of the index.

    add_passages(Path("my-index"), [Passage("p9", "Bees", "Borage feeds bees.")])
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.formats.checks import as_list, check_iterable, text_fault
from index.dense.kinds import AUTO
from index.disk.files import only_writer
from index.disk.schema import from_json
from index.manifest.columns import Columns
from index.manifest.manifest import MANIFEST, Manifest
from index.manifest.words import check_lexical
from index.records import Passage
from index.writing.change import IndexChange
from retrieval.build import BEFORE, IndexSettings, created_by, in_shards, peeked
from retrieval.corpora import open_corpus
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Record, Skipped, checked
from retrieval.encoder import Encoder
from retrieval.milvus.changes import delete_in_milvus, write_in_milvus
from retrieval.milvus.manifest import MilvusManifest, is_in_milvus
from retrieval.progress import encoding_progress
from retrieval.retriever import same_encoder


class Changed(NamedTuple):
    """What a change did, in passages, and the manifest that it left.

    `deleted` were live and are gone without a replacement; `unknown` ids were passed over;
    `dropped` had been deleted before and took up place until now. `merged` counts segments.
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
    lack one. No more than `limit` passages are read. With `skipped`, bad records are left out and
    counted there. Raises `ValueError`, and adds nothing, for an id that is live already, for what
    `build_index` refuses, for another encoder, and while another process writes.
    """
    return _write(folder, corpus, False, encoder, device, batch_size, limit, skipped)


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

    One commit adds the new passages and deletes the old ones: no search sees both, or neither.
    """
    return _write(folder, corpus, True, encoder, device, batch_size, limit, skipped)


def delete_passages(
    folder: Path | str, ids: Iterable[str], *, ignore_unknown: bool = False
) -> Changed:
    """Delete the passages of those ids; an id that comes twice counts once.

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
            return Changed(
                **delete_in_milvus(folder, wanted, ignore_unknown=ignore_unknown)._asdict()
            )
    Manifest.read(folder)
    with only_writer(folder), IndexChange(folder) as change:
        rows = change.find(wanted)
        unknown = [id_ for id_, row in zip(wanted, rows, strict=True) if row < 0]
        if unknown and not ignore_unknown:
            raise ValueError(
                f"the index in {folder} has no passage {unknown[0]!r} (of {len(unknown)} unknown "
                f"ids; --ignore-unknown passes them over)"
            )
        rows = rows[rows >= 0]
        if len(rows):
            change.delete(rows)
            change.commit()
    return Changed(change.manifest, deleted=len(rows), unknown=len(unknown))


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
        settings = _settings(folder, before)
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


def _write(
    folder: Path | str,
    corpus: str | Iterable[Passage],
    replace: bool,
    encoder: str | Encoder | None,
    device: str | None,
    batch_size: int | None,
    limit: int | None,
    skipped: Skipped | None,
) -> Changed:
    folder = Path(folder)
    if is_in_milvus(folder):
        return _write_in_milvus(
            folder, corpus, replace, encoder, device, batch_size, limit, skipped
        )
    Manifest.read(folder)  # before a lock is left in a folder that is none
    bad = Skipped() if skipped is None else skipped
    before = bad.count
    with only_writer(folder), IndexChange(folder) as change:
        settings = _settings(folder, change.manifest)
        reading = Reading(Columns(known=change.manifest.columns), limit=limit)
        passages = _passages(corpus, skipped, reading)
        loaded = same_encoder(
            folder,
            change.manifest.encoder,
            encoder,
            device=device,
            batch_size=batch_size or settings.batch_size,
            dtype=settings.dtype,
        )
        added = replaced = 0
        with encoding_progress(reading) as advance:
            for shard in in_shards(passages, settings.shard_size):
                rows = change.find([passage.id for passage in shard])
                live = rows[rows >= 0]
                if len(live) and not replace:
                    id_ = shard[int(np.flatnonzero(rows >= 0)[0])].id
                    raise ValueError(
                        f"the index in {folder} has a passage {id_!r} already; `update` replaces it"
                    )
                vectors, truncated = loaded.encode_passages(shard)
                change.add_shard(shard, vectors, truncated)
                change.delete(live)
                added, replaced = added + len(shard) - len(live), replaced + len(live)
                advance(len(shard))
        change.commit(
            factory=AUTO, skipped=bad.count - before, deterministic=settings.deterministic
        )
    return Changed(change.manifest, added, replaced, skipped=bad.count - before)


def _write_in_milvus(
    folder: Path,
    corpus: str | Iterable[Passage],
    replace: bool,
    encoder: str | Encoder | None,
    device: str | None,
    batch_size: int | None,
    limit: int | None,
    skipped: Skipped | None,
) -> Changed:
    before = skipped.count if skipped else 0
    with only_writer(folder):
        manifest = MilvusManifest.read(folder)
        settings = _settings(folder, manifest)
        passages = _passages(corpus, skipped, Reading(limit=limit))
        loaded = same_encoder(
            folder,
            manifest.encoder,
            encoder,
            device=device,
            batch_size=batch_size or settings.batch_size,
            dtype=settings.dtype,
        )
        shards = in_shards(passages, settings.shard_size)
        done = write_in_milvus(folder, shards, loaded, replacing=replace)
    return Changed(**done._asdict(), skipped=skipped.count - before if skipped else 0)


def _passages(
    corpus: str | Iterable[Passage], skipped: Skipped | None, reading: Reading
) -> Iterator[Passage]:
    if isinstance(corpus, str):
        return peeked(open_corpus(corpus, skipped, reading), corpus)
    check_iterable("corpus", corpus, "the name of a corpus, or passages")
    return peeked(checked(map(_record, count(1), corpus), skipped, reading), "passages")


def _record(number: int, passage: Passage) -> Record:
    if isinstance(passage, tuple) and len(passage) in (3, 4):
        found = Passage(*passage)
        if all(isinstance(part, str) for part in passage[:3]) and isinstance(
            found.metadata, Mapping
        ):
            return Record(f"passage {number}", found)
    raise TypeError(
        f"passage {number} is {passage!r:.80}, wanted a Passage of three strings, and perhaps a "
        f"mapping of metadata"
    )


def _settings(folder: Path, manifest: Manifest | MilvusManifest) -> IndexSettings:
    """How the index was built, as far as this version knows the settings."""
    names = {field.name for field in fields(IndexSettings)}
    known = BEFORE | {name: value for name, value in manifest.settings.items() if name in names}
    try:
        return from_json(IndexSettings, known, "settings.")
    except ValueError as error:
        raise ValueError(f"{folder / MANIFEST} is damaged ({error})") from None
