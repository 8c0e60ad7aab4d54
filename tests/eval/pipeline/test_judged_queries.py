"""Who is asked, and what counts although nobody has it."""

import pytest

from eval.pipeline.judged_queries import absent_passages, judged_queries, missing_notes
from retrieval.own_hits import own_ids

QUERIES = {"q3": "three", "q1": "one", "blank": " \u200b", "unjudged": "x"}
QRELS = {"q1": {"a": 1, "gone": 0}, "lost": {"b": 1}, "q3": {"lost": 2, "a": 0}, "blank": {"a": 1}}


def test_every_judged_query_counts_whether_it_can_be_asked_or_not():
    asked = judged_queries(QUERIES, QRELS)
    assert list(asked.queries.items()) == [("q3", "three"), ("q1", "one")]
    assert asked.qrels == QRELS
    assert asked.without_text == ("lost", "blank")


@pytest.mark.parametrize("most", [1, 2, 3, 4, 9])
def test_a_draw_spreads_over_all_of_them(most):
    asked = judged_queries(QUERIES, QRELS, most)
    assert len(asked.qrels) == min(most, 4)
    assert {*asked.queries, *asked.without_text} == asked.qrels.keys()
    assert judged_queries(QUERIES, QRELS, most) == asked


def test_judged_passages_that_are_not_there_are_counted_once():
    absent = absent_passages(QRELS, {"a", "b"})
    assert (absent.judged, absent.absent, absent.relevant) == (4, 2, 1)
    notes = missing_notes(judged_queries(QUERIES, QRELS), absent, 3)
    assert notes[0] == "2 judged queries have no text and count 0: lost, blank"
    assert notes[1].startswith("2 of 4 judged passages are not in the index, 1 of them relevant")
    assert notes[2].startswith("3 queries found the passage of their own id")
    assert missing_notes(judged_queries({"q": "x"}, {"q": {"a": 1}}), absent_passages({}, {})) == []


def test_own_ids_are_those_the_corpus_has_and_nobody_judged():
    qrels = {"1": {"7": 1}, "2": {"2": 1}, "3": {"1": 1}}
    assert own_ids(qrels, {"1", "2", "7"}) == {"1"}
    assert own_ids(qrels, {"1", "2", "7"}, keep=True) == frozenset()
