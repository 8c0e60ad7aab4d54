"""Hits of chunks as hits of documents: by a document's best chunk, or the sum of its best three.

Enters: an open index, queries, how many documents are wanted. Leaves: legs that are deep enough to
tell them; from a query's hits its documents, best first.

    grouped(hits, k=10, group=BEST, document_of=document_of)
"""

from collections.abc import Callable, Sequence

import numpy as np

from index.records import Hit
from index.store.metadata import Where
from retrieval.backend import SearchableIndex
from retrieval.legs import HYBRID, Legs, Search

BEST, SUM3 = GROUPS = ("best", "sum3")
_SUMMED = 3
# Chunks that are looked through, at first and at most. A sum is one over its chunks among these, so
# many are looked through whatever is asked for.
_CHUNKS_A_DOCUMENT, _FEWEST_SUMMED, _DEEPEST = 4, 1_000, 16_000


def check_group(group: str) -> str:
    """`group`; raises `ValueError` for none that hits can be grouped by."""
    if group not in GROUPS:
        raise ValueError(f"group is {group!r:.80}, wanted one of {', '.join(GROUPS)}")
    return group


def grouped(
    hits: Sequence[Hit], k: int, group: str, document_of: Callable[[str], str]
) -> list[Hit]:
    """The `k` best documents of `hits`, which are chunks, best first; equal ones go by id.

    A document's score is its best chunk's (`best`), or to that are added those of its second and
    third (`sum3`), where they are above 0: no chunk takes away. Its best chunk stands for it.
    """
    chunks: dict[str, list[Hit]] = {}
    for hit in hits:
        chunks.setdefault(document_of(hit.id), []).append(hit)
    more = _SUMMED if group == SUM3 else 1
    scores = {
        document: found[0].score + sum(max(0.0, hit.score) for hit in found[1:more])
        for document, found in chunks.items()
    }
    best = sorted(scores, key=lambda document: (-scores[document], document))[:k]
    return [
        Hit(document, scores[document], rank, chunks[document][0].id)
        for rank, document in enumerate(best, 1)
    ]


def deep_legs(
    search: Search,
    index: SearchableIndex,
    queries: Sequence[str],
    vectors: np.ndarray | None,
    k: int,
    depth: int,
    group: str,
    document_of: Callable[[str], str],
    where: Where | None = None,
) -> list[Legs]:
    """Each query's legs, so deep that `k` documents are told from them, and `depth` at least.

    Until then the depth is doubled, to 16,000 chunks at most. Where one leg is asked, the first `k`
    documents by their best chunk are those of a search through all chunks, ties among them; where
    the index is exact, that is exact. Raises as `Search.legs`.
    """
    least = max(_CHUNKS_A_DOCUMENT * k, _FEWEST_SUMMED if group == SUM3 else 0)
    depth = max(depth, min(least, _DEEPEST))
    found: dict[int, Legs] = {}
    waiting = list(range(len(queries)))
    while waiting:
        some = None if vectors is None else vectors[waiting]
        asked = search.legs(index, [queries[n] for n in waiting], some, depth, where)
        found |= zip(waiting, asked, strict=True)
        if depth >= _DEEPEST:
            break
        waiting = [n for n in waiting if not _tells(search, found[n], depth, k, document_of)]
        depth = min(2 * depth, _DEEPEST)
    return [found[n] for n in range(len(queries))]


def merged_whole(search: Search, legs: Legs) -> list[Hit]:
    """All hits of the mode, however deep its legs are."""
    return search.merged(legs, len(legs.dense) + len(legs.lexical))


def _tells(
    search: Search, legs: Legs, depth: int, k: int, document_of: Callable[[str], str]
) -> bool:
    """Whether there are no more chunks, or none further down is as good as the k-th document."""
    hits = merged_whole(search, legs)
    deepest = max(map(len, legs)) if search.mode == HYBRID else len(hits)
    if deepest < depth:
        return True
    best: dict[str, float] = {}
    for hit in hits:
        best.setdefault(document_of(hit.id), hit.score)
    return len(best) >= k and hits[-1].score < list(best.values())[k - 1]
