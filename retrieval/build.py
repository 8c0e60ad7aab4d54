"""Build an index from a corpus: read, encode a shard at a time, write, publish.

Enters: a corpus, a folder, settings. Leaves: a published index and its manifest. Memory holds
one shard of passages, whatever the size of the corpus.

    build_index("pydoc", Path("my-index"), IndexSettings())
"""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path

import faiss
from tqdm import tqdm

from configs.command import note
from index.faiss_gpu import stays_on_cpu
from index.faiss_index import AUTO
from index.files import LOCK, only_writer
from index.folder import claim
from index.manifest import Manifest
from index.plan import Plan
from index.records import Passage
from index.writer import IndexWriter
from retrieval.corpora import open_corpus
from retrieval.corpora.records import Skipped
from retrieval.encoder import DEFAULT_ENCODER, Encoder

_RECORDED = ("blockseek", "numpy", "pyarrow", "sentence-transformers", "torch")


@dataclass(frozen=True)
class IndexSettings:
    """What decides an index, besides its corpus.

    `batch_size` bounds what is encoded at once: so many of a shard's longest passages, or as many
    tokens of shorter ones. `max_length` is in tokens (None: the encoder's own limit); `shard_size`
    in passages: what a killed build may lose, and the window that batches of like lengths are made
    of. `deterministic` links a graph (HNSW) by one thread, so that every build links the same one;
    all other kinds are the same anyway.
    """

    encoder: str = DEFAULT_ENCODER
    faiss: str = AUTO
    max_length: int | None = None
    batch_size: int = 32
    shard_size: int = 2048
    skip_bad: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "shard_size", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, wanted at least 1")


def build_index(
    corpus: str,
    folder: Path,
    settings: IndexSettings,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    skipped: Skipped | None = None,
) -> Manifest:
    """Build the index of `corpus` in `folder`.

    A killed build goes on from its last whole shard with `resume` and gives the same bytes, but for
    a graph that is not `deterministic`; a whole index of the same corpus and settings is left as it
    is. `skipped` receives what `settings.skip_bad` left out. Raises `ValueError` for a corpus or an
    encoder that can't be read, an empty corpus, or a folder that holds an index already or anything
    else that is not ours: that before anything is read.
    """
    with only_writer(folder) if (folder / LOCK).exists() else nullcontext():
        claim(folder, resume=resume, overwrite=overwrite)
    skipped = Skipped() if skipped is None else skipped
    passages = peeked(open_corpus(corpus, skipped if settings.skip_bad else None), corpus)
    encoder = Encoder.load(
        settings.encoder,
        device=device,
        max_length=settings.max_length,
        batch_size=settings.batch_size,
    )
    plan = Plan(corpus, encoder.record.fingerprint, asdict(settings))
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder):
        writer = IndexWriter(folder, plan, resume=resume, overwrite=overwrite)
        with tqdm(desc="encode", unit=" passages", disable=None) as progress:
            for number, shard in enumerate(in_shards(passages, settings.shard_size)):
                if not writer.already_written(number, shard):
                    vectors, truncated = encoder.encode_passages(shard)
                    writer.add_shard(shard, vectors, truncated)
                progress.update(len(shard))
        manifest = writer.publish(
            encoder=encoder.record,
            factory=settings.faiss,
            skipped=skipped.count,
            created_by=created_by(),
            deterministic=settings.deterministic,
        )
    if stays_on_cpu(manifest.segments[-1].faiss_factory):
        note("a graph (HNSW) is built and searched on the CPU, whatever GPUs there are")
    if writer.finished:
        print(f"{folder} holds this index already, whole", file=sys.stderr)
    return manifest


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
