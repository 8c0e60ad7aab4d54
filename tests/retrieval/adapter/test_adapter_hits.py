from typing import NamedTuple

import numpy as np
import pytest

from retrieval.adapter.hits import UNJUDGED, label_hits, pack_hits, pack_labelled
from retrieval.adapter.profile import profile_names, score_profile


class _Hit(NamedTuple):
    id: str
    score: float


def _scores(*lists):
    return [np.array(one, np.float32) for one in lists]


def _labels(*lists):
    return [np.array(one, np.int8) for one in lists]


def test_hits_lie_end_to_end_and_come_apart_again():
    hits = pack_hits(None, _scores([0.9, 0.5], [], [0.7]))
    assert hits.counts.tolist() == [2, 0, 1]
    assert hits.query_of_hit.tolist() == [0, 0, 2]
    assert hits.rank_of_hit.tolist() == [0, 1, 0]
    parts = hits.split(hits.scores)
    assert [p.tolist() for p in parts] == [pytest.approx([0.9, 0.5]), [], pytest.approx([0.7])]
    assert pack_hits(None, []).split(np.zeros(0)) == []


def test_selected_queries_keep_their_hits_in_the_order_asked_for():
    embeddings = np.arange(6, dtype=np.float32).reshape(3, 2)
    labelled = pack_labelled(
        embeddings,
        _scores([0.9, 0.5], [0.8], [0.7, 0.1]),
        _labels([1, 0], [0], [1, -1]),
        ["a", "b", "c"],
    )
    chosen = labelled.select(np.array([2, 0]))
    assert chosen.query_ids == ("c", "a")
    assert chosen.hits.scores.tolist() == pytest.approx([0.7, 0.1, 0.9, 0.5])
    assert chosen.labels.tolist() == [1, UNJUDGED, 1, 0]
    assert chosen.hits.embeddings.tolist() == [[4, 5], [0, 1]]
    assert chosen.relevant_per_query.tolist() == [1, 1]


def test_labels_follow_the_grade_cut_and_the_choice_for_unjudged_hits():
    results = [[_Hit("a", 0.9), _Hit("b", 0.8), _Hit("x", 0.7)], [_Hit("a", 0.6)]]
    qrels = {"q1": {"a": 1, "b": 2}}
    scores, labels = label_hits(results, ["q1", "q2"], qrels, min_grade=2)
    assert [one.tolist() for one in labels] == [[0, 1, 0], [0]]
    assert scores[0].dtype == np.float32
    _, labels = label_hits(results, ["q1", "q2"], qrels, unjudged="skip")
    assert [one.tolist() for one in labels] == [[1, 1, UNJUDGED], [UNJUDGED]]
    with pytest.raises(ValueError, match="unjudged='maybe' is not one of irrelevant, skip"):
        label_hits(results, ["q1", "q2"], qrels, unjudged="maybe")


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([[0.9, np.nan]], [[1, 0]], "score nan at rank 2 of query number 1 is not a finite number"),
        ([[np.inf, 0.1]], [[1, 0]], "score inf at rank 1"),
        ([[0.5], [0.1, 0.9]], [[1], [0, 0]], "scores of query number 2 rise at rank 2"),
        ([[0.9], []], [[1], []], "query '2' .* has no hits"),
        ([], [], "has no hits"),
        ([[0.9, 0.1]], [[1, 1]], "one class only: no hit is irrelevant"),
        ([[0.9, 0.1]], [[0, 0]], "one class only: no hit is relevant"),
        ([[0.9, 0.1]], [[-1, -1]], "one class only"),
        ([[0.9, 0.1]], [[1]], "query '1' has 2 scores and 1 labels"),
        ([[0.9, 0.1]], [[3, 0]], "label 3 is not 1"),
        ([[0.9, 0.1]], [], "1 score lists, 0 label lists"),
    ],
)
def test_bad_hits_get_one_sentence(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        pack_labelled(None, _scores(*scores), _labels(*labels))


def test_bad_embeddings_get_one_sentence():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) do not fit 1 queries"):
        pack_hits(np.zeros((2, 3)), _scores([0.5]))
    with pytest.raises(ValueError, match="embedding of query number 1 holds NaN"):
        pack_hits(np.array([[0.0, np.nan]]), _scores([0.5]))


def test_a_profile_by_hand():
    found = dict(
        zip(
            profile_names(5),
            score_profile(pack_hits(None, _scores([0.9, 0.8, 0.2])), 5)[0],
            strict=True,
        )
    )
    assert found["first"] == pytest.approx(0.9)
    assert found["drop_to_2"] == pytest.approx(0.1)
    assert found["drop_to_3"] == pytest.approx(0.7)
    assert np.isnan(found["drop_to_5"])
    assert found["mean"] == pytest.approx(1.9 / 3)
    assert found["spread"] == pytest.approx(np.std([0.9, 0.8, 0.2]), rel=1e-5)
    assert found["largest_gap"] == pytest.approx(0.6)
    assert found["gap_rank"] == pytest.approx(np.log(2))
    assert found["count"] == pytest.approx(np.log(4))


def test_a_profile_reads_only_its_depth_and_no_neighbouring_query():
    """A profile must be the same alone, in any batch, and however many hits are asked for."""
    generator = np.random.default_rng(0)
    lists = [np.sort(generator.random(n))[::-1].astype(np.float32) for n in (30, 0, 1, 7, 50)]
    together = score_profile(pack_hits(None, lists), 20)
    for row, one in zip(together, lists, strict=True):
        np.testing.assert_array_equal(row, score_profile(pack_hits(None, [one]), 20)[0])
        np.testing.assert_array_equal(row, score_profile(pack_hits(None, [one[:20]]), 20)[0])
