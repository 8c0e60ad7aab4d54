"""One sentence in a long text: how often is it what comes first?

Enters: options; the prose of collections in the data folder. Leaves: one table on stdout, a line a
system: needles found at rank 1 by the depth they stand at, and how long the answers are.

All needles are hidden in one text, evenly, in a shuffled order, and each is asked for alone; so
every question has the others as distractors. Found is a needle of which the first answer holds at
least half. Ours answers with a span, BM25 and dense search with a chunk: the same blocks. Decoders
read a question's own copy of the text, which is slow: they get a shorter one and fewer needles.

    python benchmarks/needle.py --tokens 20000 --needles 10 --json
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from eval.pipeline.lexical import Bm25
from measuring.needles import Needle, needles
from provenance import provenance

from configs.formats.chunks import Span
from index.records import Passage
from rerank import BlockRanker
from rerank.documents.blocks import Cut, counter_of, places_of
from rerank.prompt.candidates import as_candidates
from retrieval.corpora import open_corpus
from retrieval.encoder import Encoder

_PROSE = ("trec_dl19", "nq_qed", "wikiqa_dev")
_DEPTHS = 5
_SEED = 0

# Questions in; for each the characters of the first answer.
Finder = Callable[[Sequence[str]], list[Span]]


class Haystack(NamedTuple):
    """A text, its tokens as MiniLM counts them, its needles and the characters of each."""

    text: str
    tokens: int
    needles: list[Needle]
    places: list[Span]


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


def paragraphs(folder: Path) -> Iterator[str]:
    """The texts of the prose collections in `folder`, one collection after the other."""
    for name in _PROSE:
        if (folder / name).is_dir():
            for passage in open_corpus(str(folder / name)):
                yield f"{passage.title}\n{passage.text}" if passage.title else passage.text


def haystack(folder: Path, ranker: BlockRanker, tokens: int, count: int) -> Haystack:
    """Prose of about `tokens` tokens with `count` needles between its paragraphs."""
    counter = counter_of(ranker.backbone)
    kept, total = [], 0
    for text in paragraphs(folder):
        if total >= tokens:
            break
        kept.append(text)
        total += counter([text])[0]
    if total < tokens:
        raise ValueError(
            f"{folder} holds {total} tokens of prose, fewer than the {tokens} asked for"
        )
    hidden = needles(count)
    random.Random(_SEED).shuffle(hidden)
    before = [(2 * n + 1) * len(kept) // (2 * count) for n in range(count)]
    text, places, done = "", [], 0
    for needle, place in zip(hidden, before, strict=True):
        # Inside a paragraph, as its last sentence: no blank line gives a needle away.
        text += "\n\n".join(kept[done:place]) + " "
        places.append(Span(len(text), len(text) + len(needle.sentence)))
        text += needle.sentence + "\n\n"
        done = place
    text += "\n\n".join(kept[done:])
    return Haystack(text, total, hidden, places)


def ours(ranker: BlockRanker, text: str) -> Finder:
    """The best span of `rerank_documents`."""

    def find(questions: Sequence[str]) -> list[Span]:
        rankings = ranker.rerank_documents_batch(questions, [text], num_spans=1)
        return [Span(*ranking[0].spans[0][:2]) for ranking in rankings]

    return find


def chunks_of(ranker: BlockRanker, text: str) -> list[Span]:
    """The blocks that `rerank_documents` reads."""
    return [Span(*place[1:]) for place in places_of(ranker.backbone, as_candidates([text]), Cut())]


def bm25(chunks: list[Span], text: str) -> Finder:
    """The best chunk of BM25."""
    index = Bm25.over((f"{n:08}", text[start:end]) for n, (start, end) in enumerate(chunks))

    def find(questions: Sequence[str]) -> list[Span]:
        run = index.search({str(n): question for n, question in enumerate(questions)}, 1)
        firsts = [next(iter(run[str(n)]), None) for n in range(len(questions))]
        return [Span(0, 0) if first is None else chunks[int(first)] for first in firsts]

    return find


def dense(chunks: list[Span], text: str) -> Finder:
    """The best chunk of dense search by MiniLM, exact."""
    encoder = Encoder.load("minilm", device="cpu")
    passages = [Passage(str(n), "", text[start:end]) for n, (start, end) in enumerate(chunks)]
    vectors, _ = encoder.encode_passages(passages)

    def find(questions: Sequence[str]) -> list[Span]:
        return [chunks[n] for n in (encoder.encode_queries(questions) @ vectors.T).argmax(1)]

    return find


def measure(system: str, make: Callable[[], Finder], stack: Haystack, count: int) -> Found:
    """Ask for the first `count` needles as they stand in `stack`, evenly chosen."""
    chosen = [(2 * n + 1) * len(stack.needles) // (2 * count) for n in range(count)]
    begun = time.perf_counter()
    answers = make()([stack.needles[n].question for n in chosen])
    seconds = time.perf_counter() - begun
    hits: list[list[bool]] = [[] for _ in range(_DEPTHS)]
    for number, answer in zip(chosen, answers, strict=True):
        start, end = stack.places[number]
        held = min(end, answer.end) - max(start, answer.start)
        hits[start * _DEPTHS // len(stack.text)].append(2 * held >= end - start)
    lengths = [end - start for start, end in answers]
    return Found(system, stack.tokens, seconds, hits, float(np.mean(lengths)))


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
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--needles", type=int, default=50, help="at most 50 (%(default)s)")
    parser.add_argument("--decoder-tokens", type=int, default=20_000)
    parser.add_argument("--decoder-needles", type=int, default=3, help="0 leaves smollm2 out")
    parser.add_argument(
        "--quick", action="store_true", help="5,000 tokens and 5 needles, no smollm2"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("no prose: give --data, or set BLOCKSEEK_DATA to the folder of collections")
    if arguments.quick:
        arguments.tokens, arguments.needles, arguments.decoder_needles = 5_000, 5, 0
    folder = Path(arguments.data)
    mini = BlockRanker.from_pretrained("mini", device="cpu")
    stack = haystack(folder, mini, arguments.tokens, arguments.needles)
    chunks = chunks_of(mini, stack.text)
    found = [
        measure(name, make, stack, arguments.needles)
        for name, make in (
            ("bm25", lambda: bm25(chunks, stack.text)),
            ("dense", lambda: dense(chunks, stack.text)),
            ("mini", lambda: ours(mini, stack.text)),
        )
    ]
    if count := arguments.decoder_needles:
        smollm2 = BlockRanker.from_pretrained("smollm2", device="cpu")
        short = haystack(folder, mini, arguments.decoder_tokens, arguments.needles)
        cut = chunks_of(mini, short.text)
        found += [
            measure(name, make, short, count)
            for name, make in (
                ("bm25", lambda: bm25(cut, short.text)),
                ("mini", lambda: ours(mini, short.text)),
                ("smollm2", lambda: ours(smollm2, short.text)),
            )
        ]
    if arguments.json:
        results = [each._asdict() for each in found]
        print(json.dumps({"provenance": provenance(), "results": results}))
    else:
        print(" | ".join(f"{name} {value}" for name, value in provenance().items()))
        print(table(found))


if __name__ == "__main__":
    main()
