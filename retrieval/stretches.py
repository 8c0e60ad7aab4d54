"""What passages say, told once: chunks that overlap are joined, near copies are recognised.

Enters: passages with their scores, best first. Leaves: stretches of documents.

    joined([Stretch("a", 0, 9, "", "One. Two.", .9)], Stretch("a", 5, 16, "", "Two. Three.", .8))
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

# Letters and digits of any script; what stands between them is no difference.
_WORDS = re.compile(r"[^\W_]+")
_SHINGLE = 12


class Stretch(NamedTuple):
    """Characters [start, end) of the text of a document, which are `text`."""

    id: str
    start: int
    end: int
    title: str
    text: str
    score: float

    def meets(self, other: "Stretch") -> bool:
        """Whether nothing of their document stands between the two."""
        return self.id == other.id and self.start <= other.end and other.start <= self.end


def joined(stretches: Sequence[Stretch], added: Stretch) -> list[Stretch]:
    """`stretches` with one more; those of them that it meets are one with it.

    What is joined takes the place and the score of its best part, which stands first. No character
    comes twice, and the text is that of the document.
    """
    kept: list[Stretch] = []
    place: int | None = None
    for stretch in stretches:
        if not stretch.meets(added):
            kept.append(stretch)
            continue
        added = _union(stretch, added)
        if place is None:
            place = len(kept)
    kept.insert(len(kept) if place is None else place, added)
    return kept


def _union(one: Stretch, other: Stretch) -> Stretch:
    first, second = sorted((one, other), key=lambda stretch: (stretch.start, -stretch.end))
    score = max(one.score, other.score)
    if second.end <= first.end:
        return first._replace(score=score)
    text = first.text + second.text[first.end - second.start :]
    return first._replace(end=second.end, text=text, score=score)


def containment(text: str, other: str) -> float:
    """How much of `text` stands in `other` too: the share of its shingles, 0 to 1.

    A shingle is 12 characters of the letters and digits of any script, whatever their case, runs of
    anything else as one space; of a shorter text it is all of it. After Broder, "On the resemblance
    and containment of documents" (1997), who takes words, which not every script parts. A text
    without letters is in none.
    """
    mine, theirs = _spelled(text), _spelled(other)
    size = min(_SHINGLE, len(mine))
    shingles = _shingles(mine, size)
    return len(shingles & _shingles(theirs, size)) / len(shingles) if mine else 0.0


def _spelled(text: str) -> str:
    return " ".join(_WORDS.findall(text.casefold()))


@lru_cache(maxsize=128)
def _shingles(spelled: str, size: int) -> frozenset[str]:
    return frozenset(spelled[place : place + size] for place in range(len(spelled) - size + 1))
