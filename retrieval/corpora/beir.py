"""A BEIR folder: `corpus.jsonl[.gz]`, `queries.jsonl[.gz]`, `qrels/<split>.tsv`."""

from collections.abc import Iterator
from pathlib import Path

from configs.formats.qrels import Qrels, read_qrels
from configs.formats.queries import read_queries
from retrieval.corpora.lines import read_jsonl
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Record


def corpus_file(folder: Path) -> Path | None:
    """The corpus of a BEIR folder, or None when `folder` is none."""
    return _either(folder / "corpus.jsonl")


def read_beir_corpus(folder: Path, reading: Reading) -> Iterator[Record]:
    """The records of the folder's corpus."""
    path = corpus_file(folder)
    if path is None:
        raise ValueError(f"{folder} is no BEIR folder: it has no corpus.jsonl or corpus.jsonl.gz")
    return read_jsonl(path, reading)


def read_beir_queries(folder: Path) -> dict[str, str]:
    """Query text by query id, in the file's order."""
    path = _either(folder / "queries.jsonl")
    if path is None:
        raise ValueError(f"{folder} has no queries.jsonl or queries.jsonl.gz")
    return read_queries(path)


def read_beir_qrels(folder: Path, split: str = "test") -> Qrels:
    """Grades by query id and passage id, from `qrels/<split>.tsv`."""
    path = qrels_file(folder, split)
    if path is None:
        splits = [name.split(".")[0] for name in qrels_files(folder)]
        raise ValueError(
            f"{folder} has no qrels/{split}.tsv; its splits: {', '.join(splits) or 'none'}"
        )
    return read_qrels(path)


def qrels_file(folder: Path, split: str) -> Path | None:
    """The file with the folder's judgments of `split`, or None."""
    return _either(folder / "qrels" / f"{split}.tsv")


def qrels_files(folder: Path) -> list[str]:
    """The names of all files with judgments that the folder has, sorted."""
    return sorted(file.name for file in (folder / "qrels").glob("*.tsv*"))


def _either(path: Path) -> Path | None:
    """`path`, or the same with `.gz`, whichever exists."""
    return next((p for p in (path, path.with_name(f"{path.name}.gz")) if p.is_file()), None)
