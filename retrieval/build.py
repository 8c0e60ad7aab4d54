"""Build an index from a corpus: read, encode a shard at a time, write, publish.

Enters: a corpus, a folder, settings. Leaves: a published index and its manifest. Memory holds
a shard of passages, or a few for each worker that encodes, whatever the size of the corpus or of
its documents.

    build_index("pydoc", Path("my-index"), IndexSettings())
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import faiss

from configs.command import note
from index.dense.gpu import stays_on_cpu
from index.dense.kinds import AUTO
from index.disk.files import LOCK, only_writer
from index.manifest.columns import Columns
from index.manifest.manifest import EncoderRecord, Manifest
from index.manifest.plan import Plan, checked_precision
from index.manifest.segments import ShardRecord
from index.manifest.words import ENGLISH, OFF, check_lexical
from index.records import Passage
from index.writing.folder import claim
from index.writing.writer import IndexWriter
from retrieval.chunks import Cut, cut_documents
from retrieval.corpora import open_corpus
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Skipped
from retrieval.encoder import DEFAULT_ENCODER, FLOAT32, check_dtype
from retrieval.engines.choice import LOCAL, start_engine
from retrieval.engines.loading import LoadEncoder
from retrieval.engines.protocol import Engine, NumberedShard, WriteShard
from retrieval.progress import encoding_progress
from retrieval.refused import DOCUMENT, PASSAGE

# What earlier versions did, which had no such settings.
BEFORE: dict[str, Any] = {
    "keep": [],
    "limit": None,
    "lexical": OFF,
    "dtype": FLOAT32,
    "vectors": FLOAT32,
    "chunk": None,
    "overlap": 0,
}
_RECORDED = ("blockseek", "numpy", "pyarrow", "sentence-transformers", "tantivy", "torch")


@dataclass(frozen=True)
class IndexSettings:
    """What decides an index, besides its corpus.

    `batch_size` bounds what is encoded at once: so many of a shard's longest passages, or as many
    tokens of shorter ones. `max_length` is in tokens (None: the encoder's own limit); `shard_size`
    in passages: what a killed build may lose, and the window that batches of like lengths are made
    of. `keep` names fields of the corpus that a search may ask for, `limit` is how many passages of
    it are read (None: all). `lexical` is the analyser of the lexical leg: english, plain (all
    words, no stems) or off. `dtype` is what the encoder computes in, `vectors` how they are stored:
    float32, float16 or int8. `deterministic` links a graph (HNSW) by one thread, so that every
    build links the same one; all other kinds are the same anyway. Who encodes where decides no
    byte: no setting.

    With `chunk` the corpus is one of documents, each cut into chunks of at most so many tokens as
    the encoder's tokenizer counts them, which begin with `overlap` tokens of the one before
    (`retrieval.chunks`); ids, `limit` and `keep` are those of documents.
    """

    encoder: str = DEFAULT_ENCODER
    faiss: str = AUTO
    max_length: int | None = None
    batch_size: int = 32
    shard_size: int = 2048
    skip_bad: bool = False
    keep: tuple[str, ...] = ()
    limit: int | None = None
    lexical: str = ENGLISH
    dtype: str = FLOAT32
    vectors: str = FLOAT32
    deterministic: bool = False
    chunk: int | None = None
    overlap: int = 0

    def __post_init__(self) -> None:
        check_lexical(self.lexical)
        check_dtype(self.dtype)
        checked_precision(self.vectors)
        if "" in self.keep or len(set(self.keep)) < len(self.keep):
            raise ValueError(f"keep is {', '.join(self.keep)!r}, wanted names, each once")
        for name in ("batch_size", "shard_size", "max_length", "limit", "chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, wanted at least 1")
        if self.overlap and self.chunk is None:
            raise ValueError(f"overlap is {self.overlap} tokens of chunks: say how long they are")
        if self.chunk is not None and not 0 <= self.overlap < self.chunk:
            raise ValueError(f"overlap is {self.overlap}, wanted 0 to {self.chunk - 1}")

    @property
    def cut(self) -> Cut | None:
        """How documents are cut; None where the corpus is one of passages."""
        return None if self.chunk is None else Cut(self.chunk, self.overlap)

    @property
    def kind(self) -> str:
        """What the records of the corpus are."""
        return PASSAGE if self.chunk is None else DOCUMENT

    def recorded(self) -> dict[str, Any]:
        """What the manifest says of them, in the words of JSON.

        Settings that earlier versions did not have are left out where they say what those did: else
        no build of theirs could be resumed.
        """
        values = asdict(self) | {"keep": list(self.keep)}
        return {
            name: value
            for name, value in values.items()
            if name not in BEFORE or value != BEFORE[name]
        }


def build_index(
    corpus: str,
    folder: Path,
    settings: IndexSettings,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    workers: int | None = None,
    engine: str = LOCAL,
    skipped: Skipped | None = None,
) -> Manifest:
    """Build the index of `corpus` in `folder`.

    `engine`, `device` (several, with commas between) and `workers` say who encodes, as
    `start_engine` takes them.

    A killed build goes on from its last whole shard with `resume` and gives the same bytes, but for
    a graph that is not `deterministic`; a whole index of the same corpus and settings is left as it
    is. `skipped` receives what `settings.skip_bad` left out. Raises `ValueError` for a corpus or an
    encoder that can't be read, an empty corpus, or a folder that holds an index already or anything
    else that is not ours: that before anything is read.
    """
    with only_writer(folder) if (folder / LOCK).exists() else nullcontext():
        claim(folder, resume=resume, overwrite=overwrite)
    skipped = Skipped() if skipped is None else skipped

    def begin(encoder: EncoderRecord) -> IndexWriter:
        plan = Plan(corpus, encoder.fingerprint, settings.recorded())
        return IndexWriter(folder, plan, resume=resume, overwrite=overwrite)

    with encoded(
        corpus, folder, settings, begin, device=device, workers=workers, engine=engine,
        skipped=skipped,
    ) as (writer, encoder):  # fmt: skip
        manifest = writer.publish(
            encoder=encoder,
            factory=settings.faiss,
            skipped=skipped.count,
            created_by=created_by(),
            lexical=settings.lexical,
            deterministic=settings.deterministic,
        )
    if stays_on_cpu(manifest.segments[-1].faiss_factory):
        note("a graph (HNSW) is built and searched on the CPU, whatever GPUs there are")
    if writer.finished:
        print(f"{folder} holds this index already, whole", file=sys.stderr)
    return manifest


class Writer(Protocol):
    """Where the shards of a build go: `index.writer.IndexWriter`, or into Milvus."""

    @property
    def finished(self) -> object | None:
        """The whole index that a resumed build found, with which the corpus is compared."""
        ...

    @property
    def write(self) -> WriteShard:
        """Writes a shard, in this process."""
        ...

    def stage(self) -> WriteShard:
        """Writes a shard, in processes that may outlive this one."""
        ...

    def already_written(self, number: int, passages: list[Passage]) -> bool:
        """Whether the build that is resumed had written that shard."""
        ...

    def accept(self, shard: ShardRecord) -> None:
        """Record that the next shard is written."""
        ...


AnyWriter = TypeVar("AnyWriter", bound=Writer)


@contextmanager
def encoded(
    corpus: str,
    folder: Path,
    settings: IndexSettings,
    begin: Callable[[EncoderRecord], AnyWriter],
    *,
    device: str | None,
    workers: int | None,
    engine: str,
    skipped: Skipped,
) -> Iterator[tuple[AnyWriter, EncoderRecord]]:
    """The writer that `begin` made, given all of `corpus`, and who encoded it.

    The block publishes what was written; nobody else writes into `folder` meanwhile. Other
    arguments, and what is raised, as `build_index`.
    """
    reading = Reading(Columns(settings.keep), needed=True, limit=settings.limit)
    passages = peeked(open_corpus(corpus, skipped if settings.skip_bad else None, reading), corpus)
    load = LoadEncoder(settings.encoder, settings.max_length, settings.batch_size, settings.dtype)
    with start_engine(load, name=engine, device=device, workers=workers) as started:
        if settings.cut is not None:
            check_fits(settings.cut, started.record)
            passages = cut_documents(passages, started.token_counter(), settings.cut, reading)
        folder.mkdir(parents=True, exist_ok=True)
        with only_writer(folder):
            writer = begin(started.record)
            encode_shards(in_shards(passages, settings.shard_size), started, writer, reading)
            yield writer, started.record


def check_fits(cut: Cut, encoder: EncoderRecord) -> None:
    """Raise `ValueError` for chunks that are longer than the encoder reads."""
    if encoder.max_length and cut.size > encoder.max_length:
        raise ValueError(
            f"chunk is {cut.size} tokens, encoder {encoder.name!r} reads {encoder.max_length}"
        )


def encode_shards(
    shards: Iterable[list[Passage]], engine: Engine, writer: Writer, reading: Reading
) -> None:
    """Let `engine` encode, and `writer` keep, what the build that is resumed had not."""
    with encoding_progress(reading) as advance:

        def unwritten() -> Iterator[NumberedShard]:
            for number, passages in enumerate(shards):
                if writer.already_written(number, passages):
                    advance(len(passages))
                else:
                    yield NumberedShard(number, passages)

        write = writer.stage() if engine.remote and not writer.finished else writer.write
        for record in engine.records(unwritten(), write):
            writer.accept(record)
            advance(record.rows)


def created_by() -> dict[str, str]:
    """The versions of what decides an index's bytes."""
    return {name: version(name) for name in _RECORDED} | {"faiss": faiss.__version__}


def peeked(passages: Iterator[Passage], corpus: str) -> Iterator[Passage]:
    """`passages` again, the first one read: an unreadable corpus fails before a model loads."""
    first = next(passages, None)
    if first is None:
        raise ValueError(f"the corpus {corpus!r} has no passages")
    return chain([first], passages)


def in_shards(passages: Iterator[Passage], size: int) -> Iterator[list[Passage]]:
    """`passages`, `size` at a time."""
    while shard := list(islice(passages, size)):
        yield shard
