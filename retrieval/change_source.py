"""What a change of an index reads: the records of a corpus, as the index was built.

Enters: the index's manifest, a corpus or passages, and how they are asked to be read and encoded.
Leaves: a `Source`: the settings of the build, records, shards of passages, and who encodes them.

    open_source(folder, manifest, "new.jsonl", How(replacing=True), Reading()).batches()
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import NamedTuple

from configs.formats.checks import check_iterable
from index.disk.schema import from_json
from index.manifest.manifest import MANIFEST, Manifest
from index.records import Passage
from retrieval.build import BEFORE, IndexSettings, in_shards, peeked
from retrieval.chunks import cut_documents
from retrieval.corpora import open_corpus
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Record, Skipped, checked
from retrieval.encoder import Encoder
from retrieval.milvus.manifest import MilvusManifest
from retrieval.retriever import same_encoder

# Documents may be of any length.
_MOST_CHARACTERS = 2**24


class How(NamedTuple):
    """How a change reads passages, and encodes them; with `replacing` over those that are live."""

    replacing: bool
    encoder: str | Encoder | None
    device: str | None
    batch_size: int | None
    limit: int | None
    skipped: Skipped | None


class Source(NamedTuple):
    """What a change writes: passages, or the documents whose chunks they are, and who encodes."""

    settings: IndexSettings
    records: Iterator[Passage]
    encoder: Encoder
    reading: Reading
    bad: Skipped
    bad_before: int

    @property
    def skipped(self) -> int:
        """How many bad records were left out of what was read until now."""
        return self.bad.count - self.bad_before

    def batches(self) -> Iterator[list[Passage]]:
        """The passages, a shard at a time; or as many documents, or 16 MB of their texts."""
        batch, characters = [], 0
        for record in self.records:
            batch.append(record)
            characters += len(record.text) if self.settings.cut else 0
            if len(batch) == self.settings.shard_size or characters >= _MOST_CHARACTERS:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def shards(self, records: Iterable[Passage]) -> Iterator[list[Passage]]:
        """What goes into the index of `records`, in its shards."""
        passages = iter(records)
        if (cut := self.settings.cut) is not None:
            count = self.encoder.token_counter()
            passages = cut_documents(passages, count, cut, self.reading)
        return in_shards(passages, self.settings.shard_size)


def open_source(
    folder: Path,
    manifest: Manifest | MilvusManifest,
    corpus: str | Iterable[Passage],
    how: How,
    reading: Reading,
) -> Source:
    """What a change reads of `corpus`, as the index was built.

    Raises `ValueError` for a corpus that can't be read, before a model loads, and for another
    encoder.
    """
    settings = settings_of(folder, manifest)
    bad = Skipped() if how.skipped is None else how.skipped
    before = bad.count
    records = _passages(corpus, how.skipped, reading)
    encoder = same_encoder(
        folder,
        manifest.encoder,
        how.encoder,
        device=how.device,
        batch_size=how.batch_size or settings.batch_size,
        dtype=settings.dtype,
    )
    return Source(settings, records, encoder, reading, bad, before)


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


def settings_of(folder: Path, manifest: Manifest | MilvusManifest) -> IndexSettings:
    """How the index was built, as far as this version knows the settings."""
    names = {field.name for field in fields(IndexSettings)}
    known = BEFORE | {name: value for name, value in manifest.settings.items() if name in names}
    try:
        return from_json(IndexSettings, known, "settings.")
    except ValueError as error:
        raise ValueError(f"{folder / MANIFEST} is damaged ({error})") from None
