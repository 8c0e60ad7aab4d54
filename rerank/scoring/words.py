"""A first score of a list from its words alone: BM25, with the list as its own collection.

Enters: a query and passages. Leaves: a score a passage, in a small part of what reading them takes.

    word_scores("pear", as_candidates(["A pear.", "Rain."]))  # the first is above 0, the other 0
"""

import math
from collections import Counter
from collections.abc import Sequence

from rerank.prompt.candidates import Candidate
from rerank.prompt.words import text_keys

# k and b of BM25.
_SATURATION, _LENGTH = 1.2, 0.75


def word_scores(query: str, candidates: Sequence[Candidate]) -> list[float]:
    """BM25 of each of `candidates` (Robertson and Zaragoza, 2009), words told by six letters.

    sum over the query's words of log(1 + (N - n + .5) / (n + .5)) * f / (f + k (1 - b + b |p| / a))
    with n of N passages that have the word, f how often this one does, |p| its words and a their
    mean. No order of the passages changes a bit.
    """
    asked = sorted(set(text_keys(query)))
    counts, lengths = [], []
    for candidate in candidates:
        words = text_keys(candidate.title) + text_keys(candidate.text)
        found = Counter(words)
        counts.append([found[word] for word in asked])
        lengths.append(len(words))
    total, mean = len(candidates), max(1, sum(lengths)) / len(candidates)
    have = [sum(count > 0 for count in column) for column in zip(*counts, strict=True)]
    weights = [math.log(1 + (total - n + 0.5) / (n + 0.5)) for n in have]
    room = [_SATURATION * (1 - _LENGTH + _LENGTH * length / mean) for length in lengths]
    return [
        math.fsum(w * f / (f + k) for w, f in zip(weights, row, strict=True))
        for row, k in zip(counts, room, strict=True)
    ]
