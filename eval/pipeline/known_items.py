"""Known-item queries: a passage's own summary line is the query, and is taken out of the passage.

Enters: the Python documentation (or any passages that open with a summary). Leaves: a BEIR folder
with splits `train` and `test`. It measures whether a passage is found again by what its author
said of it in one line; it says nothing about passages that are relevant too and unjudged.

    write_known_items("pydoc", Path("known-items"), train=400, test=150)
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from index.records import Passage
from retrieval.corpora import open_corpus

_FEWEST_WORDS, _MOST_WORDS = 4, 40
_FEWEST_WORDS_LEFT = 8
SPLITS = ("train", "test")


class KnownItem(NamedTuple):
    """A query, and the passage it was taken out of, as the corpus holds it now."""

    query: str
    passage: Passage


def known_item(passage: Passage) -> KnownItem | None:
    """Split the summary off, or None where there is none, or too little is left behind it.

    The summary is the first paragraph, up to its first full stop. Signatures are no summaries.
    """
    paragraph, _, rest = passage.text.partition("\n\n")
    line = " ".join(paragraph.split())
    summary, stop, more = line.partition(". ")
    summary = summary.rstrip(".") + ("." if stop or line.endswith(".") else "")
    left = "\n\n".join(part for part in (more.strip(), rest.strip()) if part)
    if not _FEWEST_WORDS <= len(summary.split()) <= _MOST_WORDS or re.match(r"[\w.]+\(", summary):
        return None
    if len(left.split()) < _FEWEST_WORDS_LEFT:
        return None
    return KnownItem(summary, passage._replace(text=left))


def draw_known_items(passages: Iterable[Passage], count: int) -> list[KnownItem]:
    """`count` known items in an order drawn by a digest of their ids: the same on every machine.

    A summary that occurs anywhere else in the corpus as a summary is nobody's query. Raises
    `ValueError` when the corpus has fewer such passages.
    """
    passages = list(passages)
    items = [item for passage in passages if (item := known_item(passage))]
    openings = Counter(opening(passage.text) for passage in passages)
    items = [item for item in items if openings[opening(item.query)] == 1]
    if len(items) < count:
        raise ValueError(f"the corpus has {len(items)} known items, {count} are asked for")
    items.sort(key=lambda item: hashlib.sha256(item.passage.id.encode()).digest())
    return items[:count]


def write_known_items(corpus: str, folder: Path, *, train: int, test: int) -> None:
    """Write the BEIR folder; the passages of both splits have lost their summaries.

    The folder appears by rename, so a killed run leaves none.
    """
    passages = list(open_corpus(corpus))
    items = draw_known_items(passages, train + test)
    drawn = {item.passage.id: item.passage for item in items}
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "qrels").mkdir(parents=True)
    _write_lines(
        unfinished / "corpus.jsonl",
        (
            json.dumps(
                {"_id": p.id, "title": p.title, "text": drawn.get(p.id, p).text},
                ensure_ascii=False,
            )
            for p in passages
        ),
    )
    _write_lines(
        unfinished / "queries.jsonl",
        (
            json.dumps({"_id": f"q-{item.passage.id}", "text": item.query}, ensure_ascii=False)
            for item in items
        ),
    )
    for split, part in zip(SPLITS, (items[:train], items[train:]), strict=True):
        judged = (f"q-{item.passage.id}\t{item.passage.id}\t1" for item in part)
        header = "query-id\tcorpus-id\tscore"
        _write_lines(unfinished / "qrels" / f"{split}.tsv", [header, *judged])
    about = {"corpus": corpus, "passages": len(passages), "train": train, "test": test}
    _write_lines(unfinished / "about.json", [json.dumps(about, indent=2)])
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def opening(text: str) -> str:
    """How a text's first words read, for finding the same summary elsewhere."""
    words = re.findall(r"\w+", text.lower())
    return " ".join(words[:_FEWEST_WORDS])


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
