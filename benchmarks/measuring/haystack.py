"""Prose with sentences hidden in it, in documents as the files of a folder are.

In: a folder of collections, how many tokens, how many needles. Out: a text, its documents, and
where each needle stands.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from configs.formats.chunks import Span, TokenCounter
from measuring.needles import Needle, needles
from retrieval.corpora import open_corpus

_PROSE = ("trec_dl19", "nq_qed", "wikiqa_dev")
_DOCUMENT_TOKENS = 50_000
_SEED = 0


class Haystack(NamedTuple):
    """A text, its `documents`, its tokens as MiniLM counts them, needles and where each stands."""

    text: str
    documents: list[Span]
    tokens: int
    needles: list[Needle]
    places: list[Span]

    def first(self, documents: int) -> "Haystack":
        """The first `documents` alone; their tokens by their share of the characters."""
        end = self.documents[:documents][-1].end
        inside = sum(place.end <= end for place in self.places)
        return Haystack(
            self.text[:end],
            self.documents[:documents],
            round(self.tokens * end / len(self.text)),
            self.needles[:inside],
            self.places[:inside],
        )


def paragraphs(folder: Path) -> Iterator[str]:
    """The texts of the prose collections in `folder`, one collection after the other."""
    for name in _PROSE:
        if (folder / name).is_dir():
            for passage in open_corpus(str(folder / name)):
                yield f"{passage.title}\n{passage.text}" if passage.title else passage.text


def haystack(folder: Path, counter: TokenCounter, tokens: int, count: int) -> Haystack:
    """Prose of about `tokens` tokens, as `counter` counts, with `count` needles in paragraphs."""
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
    return Haystack(text, parted(text, -(-total // _DOCUMENT_TOKENS)), total, hidden, places)


def parted(text: str, count: int) -> list[Span]:
    """`text` in `count` parts of about equal length, cut at blank lines."""
    cuts = [text.find("\n\n", number * len(text) // count) for number in range(1, count)]
    return [Span(*ends) for ends in zip([0, *cuts], [*cuts, len(text)], strict=True)]
