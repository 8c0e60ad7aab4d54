"""A BEIR folder: `corpus.jsonl[.gz]`, `queries.jsonl[.gz]`, `qrels/<split>.tsv`."""

from collections.abc import Iterator
from pathlib import Path

from retrieval.corpora.jsonl import read_jsonl
from retrieval.corpora.records import NOT_UTF8, Record, text_lines
from retrieval.corpora.tsv import read_tsv

_HEADER = ["query-id", "corpus-id", "score"]


def corpus_file(folder: Path) -> Path | None:
    """The corpus of a BEIR folder, or None when `folder` is none."""
    return _either(folder / "corpus.jsonl")


def read_beir_corpus(folder: Path) -> Iterator[Record]:
    """The records of the folder's corpus."""
    path = corpus_file(folder)
    if path is None:
        raise ValueError(f"{folder} is no BEIR folder: it has no corpus.jsonl or corpus.jsonl.gz")
    return read_jsonl(path)


def read_beir_queries(folder: Path) -> dict[str, str]:
    """Query text by query id, in the file's order."""
    path = _either(folder / "queries.jsonl")
    if path is None:
        raise ValueError(f"{folder} has no queries.jsonl or queries.jsonl.gz")
    return read_query_file(path)


def read_query_file(path: Path) -> dict[str, str]:
    """Query text by id, from JSON Lines or from a TSV of id and text, in the file's order."""
    if not path.is_file():
        raise ValueError(f"query file {path} does not exist")
    as_tsv = path.name.removesuffix(".gz").endswith((".tsv", ".txt"))
    queries: dict[str, str] = {}
    for place, passage, fault in read_tsv(path) if as_tsv else read_jsonl(path):
        if passage is None:
            raise ValueError(f"{place}: {fault}")
        if passage.id in queries:
            raise ValueError(f"{place}: query id {passage.id!r} occurred before")
        if not passage.text.strip():
            raise ValueError(f"{place}: query {passage.id!r} is empty")
        queries[passage.id] = passage.text
    return queries


def read_beir_qrels(folder: Path, split: str = "test") -> dict[str, dict[str, int]]:
    """Grades by query id and passage id, from `qrels/<split>.tsv`."""
    path = _either(folder / "qrels" / f"{split}.tsv")
    if path is None:
        splits = sorted(file.name.split(".")[0] for file in (folder / "qrels").glob("*.tsv*"))
        raise ValueError(
            f"{folder} has no qrels/{split}.tsv; its splits: {', '.join(splits) or 'none'}"
        )
    qrels: dict[str, dict[str, int]] = {}
    for number, (place, line) in enumerate(text_lines(path)):
        if line is None:
            raise ValueError(f"{place}: {NOT_UTF8}")
        columns = line.split("\t")
        if (number == 0 and columns == _HEADER) or not line.strip():
            continue
        try:
            query_id, passage_id, grade = columns
            qrels.setdefault(query_id, {})[passage_id] = int(grade)
        except ValueError:
            raise ValueError(
                f"{place}: {line!r}, wanted query-id, corpus-id and an integer score, tab-separated"
            ) from None
    return qrels


def _either(path: Path) -> Path | None:
    """`path`, or the same with `.gz`, whichever exists."""
    return next((p for p in (path, path.with_name(f"{path.name}.gz")) if p.is_file()), None)
