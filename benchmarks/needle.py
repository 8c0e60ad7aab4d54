"""One sentence in a long text: how often is it what comes first?

Enters: options; the prose of collections in the data folder. Leaves: one table on stdout, a line a
system: needles found at rank 1 by the depth they stand at, and how long the answers are.

All needles are hidden in one text, evenly, in a shuffled order, and each is asked for alone; so
every question has the others as distractors. Found is a needle of which the first answer holds at
least half. Ours answers with a span, BM25 and dense search with a chunk: the same blocks. The text
lies in documents of about 50,000 tokens, as one does in the files of a folder. A decoder reads
each question's own copy of it, which is slow: give it a short text, and ask for few needles.

A long run may be cut: with `--folder` the answers of each document are kept, the run ends after
`--minutes`, and the same command goes on. `--documents` takes the first so many of a text alone.

    python benchmarks/needle.py --tokens 20000 --needles 10 --json
    python benchmarks/needle.py --folder answers --minutes 9
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from measuring.haystack import Haystack, haystack
from provenance import provenance

from configs.files import write_text
from configs.formats.chunks import Span
from index.records import Passage
from rerank import BlockRanker
from rerank.documents.blocks import Cut, counter_of, places_of
from rerank.prompt.candidates import as_candidates
from retrieval.encoder import Encoder

_DEPTHS = 5
SYSTEMS = ("bm25", "dense", "mini", "smollm2")


class Answer(NamedTuple):
    """The first answer to a question: its score, and where it stands, in characters."""

    score: float
    start: int
    end: int


class Answers(NamedTuple):
    """By question the first answer of one document; `seconds` it took to ask all of them."""

    seconds: float
    answers: dict[str, Answer | None]


# Questions and a text in; for each the first answer. `None`: no answer at all.
Finder = Callable[[Sequence[str], str], list[Answer | None]]


class Found(NamedTuple):
    """What one system found: a needle's place in the text's fifths, and whether it came first."""

    system: str
    tokens: int
    seconds: float
    hits: list[list[bool]]
    characters: float

    @property
    def share(self) -> float:
        """The share of needles found at rank 1."""
        return float(np.mean([hit for fifth in self.hits for hit in fifth]))


def ours(model: str, dtype: str) -> Finder:
    """The best span of `rerank_documents`."""
    ranker = BlockRanker.from_pretrained(model, device="cpu", dtype=dtype)

    def find(questions: Sequence[str], text: str) -> list[Answer | None]:
        rankings = ranker.rerank_documents_batch(questions, [text], num_spans=1)
        firsts = [ranking[0].spans[0] for ranking in rankings]
        return [Answer(each.score, each.start, each.end) for each in firsts]

    return find


def chunks_of(ranker: BlockRanker, text: str) -> list[Span]:
    """The blocks that `rerank_documents` reads."""
    return [Span(*place[1:]) for place in places_of(ranker.backbone, as_candidates([text]), Cut())]


def bm25(ranker: BlockRanker) -> Finder:
    """The best chunk of BM25 (bm25s, k1 1.5, b 0.75), English stems without stop words."""
    import bm25s
    from Stemmer import Stemmer

    def words(texts: list[str]) -> list[list[str]]:
        found: list[list[str]] = bm25s.tokenize(
            texts,
            stopwords="en",
            stemmer=Stemmer("english"),
            return_ids=False,
            show_progress=False,
        )
        return found

    def find(questions: Sequence[str], text: str) -> list[Answer | None]:
        chunks = chunks_of(ranker, text)
        index = bm25s.BM25()
        index.index(words([text[start:end] for start, end in chunks]), show_progress=False)
        answers: list[Answer | None] = []
        for asked in words(list(questions)):
            scores = index.get_scores(asked)
            best = int(scores.argmax())
            found = scores[best] > 0
            answers.append(Answer(float(scores[best]), *chunks[best]) if found else None)
        return answers

    return find


def dense(ranker: BlockRanker, dtype: str) -> Finder:
    """The best chunk of dense search by MiniLM, exact."""
    encoder = Encoder.load("minilm", device="cpu", dtype=dtype)

    def find(questions: Sequence[str], text: str) -> list[Answer | None]:
        chunks = chunks_of(ranker, text)
        passages = [Passage(str(n), "", text[start:end]) for n, (start, end) in enumerate(chunks)]
        vectors, _ = encoder.encode_passages(passages)
        cosines = encoder.encode_queries(questions) @ vectors.T
        return [Answer(float(row.max()), *chunks[int(row.argmax())]) for row in cosines]

    return find


class Kept:
    """The answers of one system by document, in files that a later run finds again."""

    def __init__(self, folder: Path | None, name: str, until: float) -> None:
        """`name` says of which run; no document is begun after the time `until`."""
        self._folder, self._name, self._until = folder, name, until

    def is_over(self) -> bool:
        """Whether no other document should be begun."""
        return time.monotonic() > self._until

    def read(self, number: int) -> Answers | None:
        """The answers of document `number`, where they are there."""
        if self._folder is None or not self._path(number).exists():
            return None
        seconds, rows = json.loads(self._path(number).read_text())
        return Answers(seconds, {q: row and Answer(*row) for q, row in rows.items()})

    def write(self, number: int, found: Answers) -> None:
        """Keep them."""
        if self._folder is not None:
            write_text(self._path(number), json.dumps(found))

    def _path(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._name}-{number:03}.json"


def finder_of(system: str, ranker: BlockRanker, dtype: str) -> Callable[[], Finder]:
    """How a system is loaded; `ranker` cuts the chunks of those that do not cut."""
    if system == "bm25":
        return lambda: bm25(ranker)
    return (lambda: dense(ranker, dtype)) if system == "dense" else (lambda: ours(system, dtype))


def asked(stack: Haystack, count: int) -> list[int]:
    """The first `count` needles as they stand in `stack`, evenly chosen."""
    return [(2 * n + 1) * len(stack.needles) // (2 * count) for n in range(count)]


def search(
    load: Callable[[], Finder], stack: Haystack, parts: Sequence[Span], count: int, kept: Kept
) -> tuple[float, list[Span]] | None:
    """The seconds of `parts` and the best answer of all of them; None where time is up before."""
    find: Finder | None = None
    seconds = 0.0
    best: list[Answer | None] = [None] * count
    questions = [stack.needles[n].question for n in asked(stack, count)]
    for number, (start, end) in enumerate(parts):
        done = kept.read(number)
        if done is None or not done.answers.keys() >= set(questions):
            if kept.is_over():
                return None
            find = find or load()
            begun = time.perf_counter()
            answers = dict(zip(questions, find(questions, stack.text[start:end]), strict=True))
            done = Answers(time.perf_counter() - begun, answers)
            kept.write(number, done)
        seconds += done.seconds
        for place, question in enumerate(questions):
            if (answer := done.answers[question]) is not None:
                moved = Answer(answer.score, start + answer.start, start + answer.end)
                best[place] = max(best[place] or moved, moved, key=lambda each: each.score)
    return seconds, [Span(0, 0) if each is None else Span(*each[1:]) for each in best]


def hits_of(stack: Haystack, count: int, answers: Sequence[Span]) -> list[list[bool]]:
    """For each fifth of the text, which of the needles there that were asked for were found."""
    hits: list[list[bool]] = [[] for _ in range(_DEPTHS)]
    for number, answer in zip(asked(stack, count), answers, strict=True):
        start, end = stack.places[number]
        held = min(end, answer.end) - max(start, answer.start)
        hits[start * _DEPTHS // len(stack.text)].append(2 * held >= end - start)
    return hits


def table(found: Sequence[Found]) -> str:
    """A line a system."""
    lines = ["system   tokens   found at rank 1   by fifth of the text   characters   seconds"]
    for each in found:
        fifths = " ".join(f"{sum(hits)}/{len(hits)}" for hits in each.hits)
        total = sum(len(hits) for hits in each.hits)
        lines.append(
            f"{each.system:8} {each.tokens:>7}  {round(each.share * total)}/{total} = "
            f"{each.share:.2f}   {fifths:22} {each.characters:>9.0f} {each.seconds:>12.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Hide, find and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOCKSEEK_DATA"))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS[:3]))
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--needles", type=int, default=50, help="at most 50 (%(default)s)")
    parser.add_argument("--documents", type=int, help="the first so many of the text alone")
    parser.add_argument("--ask", type=int, help="for so many of the needles; default: for all")
    parser.add_argument("--dtype", default="float32", help="of the models (%(default)s)")
    parser.add_argument("--folder", type=Path, help="keep the answers of each document there")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after about so many")
    parser.add_argument("--quick", action="store_true", help="5,000 tokens and 5 needles")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None:
        print("nothing measured: name the folder of collections with --data or $BLOCKSEEK_DATA")
        return
    if arguments.quick:
        arguments.tokens, arguments.needles = 5_000, 5
    until = time.monotonic() + 60 * arguments.minutes
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    mini = BlockRanker.from_pretrained("mini", device="cpu")
    stack = haystack(
        Path(arguments.data), counter_of(mini.backbone), arguments.tokens, arguments.needles
    )
    if arguments.documents is not None:
        stack = stack.first(arguments.documents)
    count = arguments.ask or len(stack.needles)
    found = []
    for system in arguments.systems:
        name = f"{system}-{arguments.tokens}-{arguments.needles}-{arguments.dtype}"
        kept, parts = Kept(arguments.folder, name, until), stack.documents
        if system == "bm25":  # how rare a word is, it counts over all of the text
            kept, parts = Kept(None, name, math.inf), [Span(0, len(stack.text))]
        answered = search(finder_of(system, mini, arguments.dtype), stack, parts, count, kept)
        if answered is None:
            print(f"{system}: the time is up; call again with the same --folder", file=sys.stderr)
            return
        seconds, answers = answered
        hits = hits_of(stack, count, answers)
        characters = float(np.mean([end - start for start, end in answers]))
        found.append(Found(system, stack.tokens, seconds, hits, characters))
    if arguments.json:
        results = [each._asdict() for each in found]
        print(json.dumps({"provenance": provenance(), "results": results}))
    else:
        print(" | ".join(f"{name} {value}" for name, value in provenance().items()))
        print(table(found))


if __name__ == "__main__":
    main()
