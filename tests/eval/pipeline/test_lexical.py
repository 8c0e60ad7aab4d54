import math

import pytest

from eval.pipeline.lexical import Bm25

PASSAGES = [
    ("wing", "Wings\nLift of a swept wing at high speed."),
    ("pear", "Pears and apples ripen in autumn."),
    ("lift", "A lift carries passengers; lifts are inspected."),
]


def test_words_meet_by_their_stems_and_rarer_ones_count_more():
    run = Bm25.over(PASSAGES).search(
        {"q": "lifting wings", "none": "zebra", "stop": "of the"}, k=10
    )
    assert list(run["q"]) == ["wing", "lift"]
    assert run["none"] == {} == run["stop"]


def test_a_score_is_bm25s_as_by_hand():
    (score,) = Bm25.over(PASSAGES).search({"q": "autumn"}, k=10)["q"].values()
    lengths = {"wing": 6, "pear": 4, "lift": 5}  # words that are left: no stop words
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    norm = 1.5 * (1 - 0.75 + 0.75 * lengths["pear"] / (sum(lengths.values()) / 3))
    assert score == pytest.approx(idf / (1 + norm), rel=0.02)


def test_equal_scores_go_by_id():
    twins = [(id_, "the very same words") for id_ in ("b", "a")]
    assert list(Bm25.over(twins).search({"q": "words"}, k=2)["q"]) == ["a", "b"]
