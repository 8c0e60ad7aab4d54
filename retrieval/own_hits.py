"""Hits under the query's own id: some corpora (ArguAna, Quora) hold the queries; BEIR drops them.

Enters: qrels, the corpus's ids, hits. Leaves: which queries must not find themselves; other hits.

    without_own(hits, "q1", own_ids({"q1": {"a": 1}}, {"a", "q1"}), k=10)
"""

from collections.abc import Callable, Container, Mapping, Sequence
from collections.abc import Set as AbstractSet

from index.records import Hit


def own_ids(
    qrels: Mapping[str, Mapping[str, int]], known: Container[str], keep: bool = False
) -> frozenset[str]:
    """The queries that must not find the passage of their own id; none with `keep`.

    A corpus of `known` ids may number its passages as its queries are numbered, and mean others: a
    passage that was judged for the query of its id is no copy of that query, and stays.
    """
    if keep:
        return frozenset()
    return frozenset(id_ for id_, grades in qrels.items() if id_ in known and id_ not in grades)


def without_own(
    hits: Sequence[Hit],
    query_id: str,
    own: AbstractSet[str],
    k: int | None,
    document_of: Callable[[str], str] = str,
) -> list[Hit]:
    """The first `k` of `hits` (None: all) but, for a query of `own`, those of its own id.

    Ranks close up. Search for one hit more where `own` holds any. Where hits are chunks,
    `document_of` says whose.
    """
    others = [hit for hit in hits if not (query_id in own and document_of(hit.id) == query_id)][:k]
    return [hit._replace(rank=rank) for rank, hit in enumerate(others, 1)]
