"""Corpora of every kind behind one iterator of passages.

Enters: a path, an ir_datasets id, `pydoc`, or `-` for stdin. Leaves: passages; with queries and
qrels, a collection; or the qrels alone.

    for passage in open_corpus("pydoc"): print(passage.id)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from configs.formats.lines import PathLike
from configs.formats.qrels import Qrels, read_qrels
from index.records import Passage
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Record, Skipped, checked

PYDOC, STDIN = "pydoc", "-"
KINDS = (
    "a BEIR folder, a .jsonl, .tsv (each also .gz) or .parquet file, an ir_datasets id, "
    "`pydoc` or `pydoc:PACKAGE,…`, or `-`: JSON Lines from stdin"
)


class Collection(NamedTuple):
    """Queries and judgments over a corpus. `corpus` is what `open_corpus` takes."""

    corpus: str
    queries: dict[str, str]
    qrels: Qrels


def open_corpus(
    corpus: str, skipped: Skipped | None = None, reading: Reading | None = None
) -> Iterator[Passage]:
    """The passages of `corpus`, in its own order; `reading` says what of it.

    Raises `ValueError`, naming the file and line, for a broken record, a repeated id, an empty
    passage or a kept field of another type; with `skipped` those are left out and counted. Raises
    it for an unknown corpus too.
    """
    reading = reading or Reading()
    return checked(_records(corpus, reading), skipped, reading)


def load_collection(collection: str, split: str = "test") -> Collection:
    """The queries and qrels of a BEIR folder (its `split`) or an ir_datasets id."""
    path = Path(collection)
    if path.is_dir():
        from retrieval.corpora.beir import read_beir_qrels, read_beir_queries

        return Collection(collection, read_beir_queries(path), read_beir_qrels(path, split))
    if path.exists():
        raise ValueError(f"{collection} is a file; queries and qrels come in a BEIR folder")
    from retrieval.corpora import ir_datasets_corpus as source

    return Collection(
        collection,
        source.read_ir_datasets_queries(collection),
        source.read_ir_datasets_qrels(collection),
    )


def load_qrels(source: PathLike, split: str = "test") -> Qrels:
    """The qrels of a file, of a BEIR folder (its `split`) or of an ir_datasets id.

    Raises `ValueError` for a source that is none of the three, and a folder without that split.
    """
    path = Path(source)
    if path.is_file():
        return read_qrels(path)
    if not path.is_dir():
        from retrieval.corpora.ir_datasets_corpus import read_ir_datasets_qrels

        return read_ir_datasets_qrels(str(source))
    from retrieval.corpora.beir import qrels_file, qrels_files

    if (found := qrels_file(path, split)) is None:
        present = ", ".join(qrels_files(path))
        raise ValueError(
            f"{path} has no qrels/{split}.tsv"
            + (f"; it has {present}: name one with --split" if present else "")
        )
    return read_qrels(found)


def _records(corpus: str, reading: Reading) -> Iterator[Record]:
    # Readers are imported as they are needed: each brings a library of its own.
    if corpus == PYDOC or corpus.startswith(f"{PYDOC}:"):
        from retrieval.corpora.python_docs import read_python_docs

        named = corpus.partition(":")[2]
        return read_python_docs(reading, tuple(named.split(",")) if named else None)
    if corpus == STDIN:
        from retrieval.corpora.lines import read_jsonl

        return read_jsonl(None, reading)
    path = Path(corpus)
    if path.is_dir():
        from retrieval.corpora.beir import read_beir_corpus

        return read_beir_corpus(path, reading)
    name = path.name.removesuffix(".gz")
    if path.is_file():
        if name.endswith((".jsonl", ".json", ".ndjson")):
            from retrieval.corpora.lines import read_jsonl

            return read_jsonl(path, reading)
        if name.endswith((".tsv", ".txt")):
            from retrieval.corpora.lines import read_tsv

            return read_tsv(path, reading)
        if name.endswith(".parquet"):
            from retrieval.corpora.parquet import read_parquet

            return read_parquet(path, reading)
        raise ValueError(f"{corpus}: unknown kind of file; a corpus is {KINDS}")
    if path.suffix or path.is_absolute():
        raise ValueError(f"{corpus} does not exist; a corpus is {KINDS}")
    from retrieval.corpora.ir_datasets_corpus import read_ir_datasets_corpus

    return read_ir_datasets_corpus(corpus, reading)
