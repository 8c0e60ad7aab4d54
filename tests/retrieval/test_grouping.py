"""Documents by their chunks: scores by hand, ties, and a search that is deep enough."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.records import Hit
from retrieval import grouping
from retrieval.chunks import document_of
from retrieval.grouping import BEST, SUM3, deep_legs, grouped, merged_whole
from retrieval.legs import Search


def _hits(*pairs):
    return [Hit(id_, score, rank) for rank, (id_, score) in enumerate(pairs, 1)]


HITS = _hits(
    ("a#0-9", 0.9), ("b#0-9", 0.5), ("b#9-12", 0.5), ("c#0-9", 0.4), ("b#12-20", 0.25),
    ("b#20-30", 0.25), ("a#9-12", -0.5), ("c#9-20", -0.75),
)  # fmt: skip


def test_by_hand():
    assert grouped(HITS, 10, BEST, document_of) == [
        Hit("a", 0.9, 1, "a#0-9"),
        Hit("b", 0.5, 2, "b#0-9"),
        Hit("c", 0.4, 3, "c#0-9"),
    ]
    # Three of b's four; a chunk below 0 takes nothing away.
    assert grouped(HITS, 2, SUM3, document_of) == [
        Hit("b", 1.25, 1, "b#0-9"),
        Hit("a", 0.9, 2, "a#0-9"),
    ]
    assert grouped([], 3, SUM3, document_of) == []


def test_ties_go_by_the_document_and_not_by_the_chunk():
    # "a!" is behind "a" as an id, and before it as the beginning of a chunk's.
    hits = _hits(("a!#0-9", 0.5), ("a#0-9", 0.5))
    assert [hit.id for hit in grouped(hits, 2, BEST, document_of)] == ["a", "a!"]
    assert [hit.id for hit in grouped(hits, 1, BEST, document_of)] == ["a"]


def test_a_group_of_another_name_is_refused():
    with pytest.raises(ValueError, match="group is 'mean', wanted one of best, sum3"):
        grouping.check_group("mean")


class _Index:
    """Chunks with one score each, the same for every query."""

    def __init__(self, scores):
        best = sorted(scores, key=lambda id_: (-scores[id_], id_))
        self.hits = _hits(*((id_, scores[id_]) for id_ in best))
        self.asked = []

    def search(self, vectors, k, where=None):
        self.asked.append((len(vectors), k))
        return [self.hits[:k] for _ in vectors]


def _documents(index, k, group=BEST):
    search = Search()
    (legs,) = deep_legs(
        search, index, ["q"], np.zeros((1, 2), np.float32), k, k, group, document_of
    )
    return grouped(merged_whole(search, legs), k, group, document_of)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["a", "a!", "b", "c#1-2", "d"]), st.integers(0, 9)),
        st.sampled_from([0.1, 0.2, 0.3]),
        min_size=1,
    ),
    st.integers(1, 6),
)
def test_the_best_are_those_of_all_chunks_ties_among_them(scores, k):
    index = _Index({f"{document}#{n}-{n + 1}": s for (document, n), s in scores.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "_CHUNKS_A_DOCUMENT", 1)
        found = _documents(index, k)
    assert found == grouped(index.hits, k, BEST, document_of)


def test_a_document_of_very_many_chunks_does_not_hide_the_others():
    scores = {f"big#{n}-{n + 1}": 0.9 for n in range(300)}
    index = _Index(scores | {"small#0-5": 0.1})
    assert [hit.id for hit in _documents(index, 2)] == ["big", "small"]
    assert [k for _, k in index.asked] == [8, 16, 32, 64, 128, 256, 512]
    # Only so far: what is asked for may not be there.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "_DEEPEST", 64)
        assert [hit.id for hit in _documents(index, 2)] == ["big"]


def test_only_queries_that_need_it_are_asked_again():
    class Two(_Index):
        def search(self, vectors, k, where=None):
            self.asked.append((len(vectors), k))
            easy = _hits(*((f"d{n}#0-1", 1 - n / 100) for n in range(20)))
            return [self.hits[:k] if vector[0] else easy[:k] for vector in vectors]

    index = Two({f"big#{n}-{n + 1}": 0.9 for n in range(10)} | {"small#0-5": 0.1})
    vectors = np.array([[0, 0], [1, 0]], np.float32)
    legs = deep_legs(Search(), index, ["easy", "hard"], vectors, 2, 2, BEST, document_of)
    assert index.asked == [(2, 8), (1, 16)]
    assert [len(each.dense) for each in legs] == [8, 11]


def test_a_sum_looks_at_a_thousand_chunks_whatever_is_asked_for():
    index = _Index({f"d{n}#0-1": 1 - n / 10_000 for n in range(3000)})
    _documents(index, 1, SUM3)
    assert index.asked == [(1, 1000)]
