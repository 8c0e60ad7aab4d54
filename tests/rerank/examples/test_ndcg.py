import pytest

from eval.measures.ranking import evaluate
from rerank.examples.ndcg import ndcg


def test_ndcg_is_that_of_the_measures():
    grades = {"a": 2, "b": 0, "c": 1, "d": 3}
    order = ["c", "b", "d", "a"]
    run = {"q": {id_: float(-rank) for rank, id_ in enumerate(order)}}
    wanted = evaluate({"q": grades}, run, ["nDCG@10"]).means["nDCG@10"]
    assert ndcg([grades[id_] for id_ in order], list(grades.values())) == pytest.approx(wanted)
    assert ndcg([0, 0], [0]) == 0
