import pytest

from eval.measures.summhay import Insight, citations, summhay


def test_worked_by_hand():
    # Full: cites 1, 2, 9 where 1, 2, 3 hold it: P = R = 2/3. Partial: 4 of 4, 5: P = 1, R = 1/2.
    found = summhay(
        [
            Insight("full", "- cheap [1, 2] [9]", frozenset({1, 2, 3})),
            Insight("partial", "- fast [4]", frozenset({4, 5})),
            Insight("none", "", frozenset({6})),
        ]
    )
    assert found.coverage == pytest.approx(1.5 / 3)
    assert found.citation == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert found.citation_precision == pytest.approx((2 / 3 + 1) / 2)
    assert found.citation_recall == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.joint == pytest.approx((2 / 3 + 0.5 * 2 / 3 + 0) / 3)


def test_nothing_covered_has_no_citation_score():
    found = summhay([Insight("none", "", frozenset({1}))])
    assert (found.coverage, found.citation, found.joint) == (0.0, None, 0.0)


def test_covered_without_a_citation_is_zero():
    found = summhay([Insight("full", "no source", frozenset({1}))])
    assert (found.coverage, found.citation, found.joint) == (1.0, 0.0, 0.0)


def test_citations_in_all_their_forms():
    assert citations("a [1] b [2, 3] [4,5] [6 ,] not [x] (7) [8-9]") == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("insights", "word"),
    [
        ([], "at least one"),
        ([Insight("FULL_COVERAGE", "b", frozenset())], "insight 1: coverage"),
        ([Insight("full", " ", frozenset())], "no bullet"),
    ],
)
def test_what_cannot_be_scored_is_named(insights, word):
    with pytest.raises(ValueError, match=word):
        summhay(insights)
