import pytest

from eval.measures.filter import filter_measures

QRELS = {"q1": {"a": 2, "b": 0, "c": 1}, "q2": {"d": 1}, "q3": {"e": 0}, "q4": {"f": 1}}
CANDIDATES = {"q1": ["a", "b", "c", "x"], "q2": ["d", "y"], "q3": ["e"], "q4": ["z"]}


def test_counts_worked_by_hand():
    # Kept a, b, x | nothing | e | z; relevant candidates: a, c | d | - | - (f was not retrieved).
    kept = {"q1": ["a", "b", "x"], "q3": ["e"], "q4": ["z"]}
    found = filter_measures(QRELS, CANDIDATES, kept)
    assert (found.queries, found.candidates, found.kept) == (4, 8, 5)
    assert found.filtered == pytest.approx(3 / 8)
    assert found.recall == pytest.approx(1 / 3)
    assert found.precision == pytest.approx(1 / 3)  # a of the judged a, b, e
    assert found.precision_unjudged_as_irrelevant == pytest.approx(1 / 5)
    assert found.f1 == pytest.approx(1 / 3)
    assert found.macro_recall == pytest.approx((1 / 2 + 0) / 2)
    assert found.macro_precision == pytest.approx((1 / 2 + 0) / 2)
    assert found.null == 1 / 4
    assert found.wrongly_null == 1 / 2
    assert found.kept_percentiles[50] == 1.0
    assert found.kept_percentiles[100] == 3.0


def test_a_higher_cut_makes_fewer_relevant():
    found = filter_measures(QRELS, CANDIDATES, CANDIDATES, minimum_grade=2)
    assert found.recall == 1.0
    assert found.precision == pytest.approx(1 / 5)


def test_keeping_nothing_has_no_precision_but_a_recall_of_zero():
    found = filter_measures(QRELS, CANDIDATES, {})
    assert found.precision is None
    assert found.f1 is None
    assert found.recall == 0.0
    assert (found.null, found.wrongly_null, found.filtered) == (1.0, 1.0, 1.0)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="'q1' keeps 'k'"):
        filter_measures(QRELS, CANDIDATES, {"q1": ["k"]})
    with pytest.raises(ValueError, match="'q9' keeps passages"):
        filter_measures(QRELS, CANDIDATES, {"q9": ["k"]})
    with pytest.raises(ValueError, match="nothing to filter"):
        filter_measures(QRELS, {"q1": []}, {})
