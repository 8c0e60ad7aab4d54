"""Pairs of a query and the passage that answers it, and ways to make more out of passages.

Enters: texts. Leaves: `Pairs`.

    cloze("debian_cloze", ["One sentence. A second one. A third. A fourth."])
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

_FEWEST_SENTENCES = 4
_FEWEST_WORDS = 5
_KEYWORDS_FROM = 14
_MOST_KEYWORDS = 5


class Pairs(NamedTuple):
    """Passages, and queries with the place of the passage that each of them asks for."""

    name: str
    passages: list[str]
    queries: list[tuple[str, int]]


def cloze(name: str, passages: Sequence[str]) -> Pairs:
    """Inverse cloze (Lee et al., ACL 2019): the second sentence asks for all the others.

    Passages of fewer than four sentences are left out.
    """
    kept: list[str] = []
    queries = []
    for passage in passages:
        sentences = [
            sentence
            for sentence in re.split(r"(?<=[.!?])\s+", passage)
            if len(sentence.split()) >= _FEWEST_WORDS
        ]
        if len(sentences) >= _FEWEST_SENTENCES:
            queries.append((sentences[1], len(kept)))
            kept.append(" ".join([sentences[0], *sentences[2:]]))
    return Pairs(name, kept, queries)


def keywords(name: str, passages: Sequence[str], frequency: Mapping[str, int], seed: int) -> Pairs:
    """Two to five of a passage's rarest words, in their order, ask for it.

    `frequency` counts the passages that hold a word, in lower case.
    """
    kept: list[str] = []
    queries = []
    for passage in passages:
        words = list(dict.fromkeys(words_of(passage)))
        if len(words) < _KEYWORDS_FROM:
            continue
        rare = sorted(words, key=lambda word: (frequency.get(word, 0), word))[:_KEYWORDS_FROM]
        generator = np.random.default_rng([seed, digest(passage)])
        count = generator.integers(2, _MOST_KEYWORDS + 1)
        drawn = {str(word) for word in generator.choice(rare, count, replace=False)}
        queries.append((" ".join(word for word in words if word in drawn), len(kept)))
        kept.append(passage)
    return Pairs(name, kept, queries)


def words_of(text: str) -> list[str]:
    """The words of `text` of three letters and more, in lower case."""
    return re.findall(r"[a-z][a-z\-]{2,}", text.lower())


def drawn(pairs: Pairs, most: int) -> Pairs:
    """At most `most` queries, by digest, with all passages.

    The same texts are drawn on every machine, in the same order.
    """
    queries = sorted(pairs.queries, key=lambda query: digest(query[0]))[:most]
    return pairs._replace(queries=queries)


def alone(pairs: Pairs) -> Pairs:
    """Only the passages that are asked for."""
    places = sorted({place for _, place in pairs.queries})
    new = {place: number for number, place in enumerate(places)}
    return Pairs(
        pairs.name,
        [pairs.passages[place] for place in places],
        [(query, new[place]) for query, place in pairs.queries],
    )


def digest(text: str) -> int:
    """64 bits of SHA-256: an order that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
