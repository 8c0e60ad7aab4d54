"""Texts that measure must not train: what a training text shares with the measured collections.

Enters: the folder of test collections, texts. Leaves: which texts are theirs.

    measured = MeasuredTexts.of(Path("data"))
    measured.refuse({"medquad": ["a query", "a passage"]})

A text is theirs where it holds 13 words on end of one of their queries or passages (the overlap of
Brown et al., arXiv 2005.14165, appendix C), or, being shorter, all of it is one. Words are runs of
letters and digits in lower case.
"""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from retrieval.corpora import open_corpus
from retrieval.corpora.beir import read_beir_queries
from retrieval.corpora.records import Skipped

_WORDS = 13
_WORD = re.compile(r"[^\W_]+")
# An odd multiplier of 64 bits (Knuth): places of a word in a run differ in all bits.
_STEP = np.uint64(0x9E3779B97F4A7C15)


class MeasuredTexts:
    """The runs of 13 words, by a hash of 64 bits, and the shorter texts of some collections."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._short: set[tuple[str, ...]] = set()
        runs = [np.zeros(0, np.uint64)]
        for text in texts:
            words = _words(text)
            if len(words) < _WORDS:
                self._short.add(tuple(words))
            else:
                runs.append(_runs(words))
        self._short.discard(())
        self._runs = np.unique(np.concatenate(runs))

    @classmethod
    def of(cls, folder: Path) -> "MeasuredTexts":
        """All queries and passages of the BEIR folders in `folder`.

        Raises `ValueError` where there is none: a check against nothing is none.
        """
        folders = sorted({path.parent for path in folder.glob("*/queries.jsonl*")})
        if not folders:
            raise ValueError(
                f"{folder} holds no BEIR folder to check against; set BLOCKSEEK_DATA to one that "
                f"does"
            )
        return cls(text for path in folders for text in _texts(path))

    def holds(self, text: str) -> bool:
        """Whether `text` shares a run of 13 words, or, being shorter, is one of the texts."""
        words = _words(text)
        if len(words) < _WORDS:
            return tuple(words) in self._short
        found = _runs(words)
        places = np.searchsorted(self._runs, found).clip(max=max(len(self._runs) - 1, 0))
        return bool(len(self._runs) and (self._runs[places] == found).any())

    def refuse(self, texts: Mapping[str, Iterable[str]]) -> None:
        """Raise `ValueError` naming the source of the first of `texts` that is measured on."""
        for source, its in texts.items():
            for text in its:
                if self.holds(text):
                    raise ValueError(
                        f"{source} holds a text of the measured collections, which may not train: "
                        f"{text[:80]!r}; leave it out"
                    )


def _texts(folder: Path) -> Iterable[str]:
    yield from read_beir_queries(folder).values()
    if any(folder.glob("corpus.jsonl*")):
        for passage in open_corpus(str(folder), Skipped()):
            yield passage.full_text


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _runs(words: Sequence[str]) -> np.ndarray:
    """Hashes uint64 [W - 12] of every 13 of W words on end."""
    codes = np.array([zlib.crc32(word.encode(errors="surrogatepass")) for word in words], np.uint64)
    length = len(words) - _WORDS + 1
    hashes = np.zeros(length, np.uint64)
    for place in range(_WORDS):
        hashes = (hashes + codes[place : place + length] + np.uint64(1)) * _STEP
        hashes ^= hashes >> np.uint64(29)
    return hashes
