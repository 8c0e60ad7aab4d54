import pytest

from retrieval.fusion import reciprocal_rank_fusion, weighted_sum


def test_ranks_are_added_up_as_by_hand():
    fused = reciprocal_rank_fusion([{"a": 9.0, "b": 8.0, "c": 1.0}, {"c": 0.9, "a": 0.2}], k=10)
    assert fused == {"a": 1 / 61 + 1 / 62, "c": 1 / 63 + 1 / 61, "b": 1 / 62}
    assert list(fused) == ["a", "c", "b"]


def test_ties_go_by_id_and_depth_is_kept():
    assert list(reciprocal_rank_fusion([{"b": 1.0, "a": 1.0, "c": 0.5}], k=2)) == ["a", "b"]
    assert list(weighted_sum([{"b": 1.0, "a": 1.0, "c": 0.5}], [1.0], k=2)) == ["a", "b"]


def test_a_ranking_without_hits_leaves_the_others_order():
    assert list(reciprocal_rank_fusion([{}, {"x": 2.0, "y": 1.0}], k=5)) == ["x", "y"]
    assert list(weighted_sum([{}, {"x": 2.0, "y": 1.0}], [0.9, 0.1], k=5)) == ["x", "y"]
    assert reciprocal_rank_fusion([{}, {}], k=5) == {} == weighted_sum([{}, {}], [0.5, 0.5], k=5)


def test_scores_are_laid_over_zero_to_one_as_by_hand():
    dense, lexical = {"a": 0.8, "b": 0.6, "c": 0.4}, {"c": 12.0, "d": 4.0}
    fused = weighted_sum([dense, lexical], [0.75, 0.25], k=10)
    assert fused == pytest.approx({"a": 0.75, "b": 0.375, "c": 0.25, "d": 0.0})
    assert list(fused) == ["a", "b", "c", "d"]


def test_equal_scores_are_all_the_best():
    assert weighted_sum([{"a": 3.0, "b": 3.0}, {"b": 2.0}], [0.5, 0.5], k=10) == {
        "b": 1.0,
        "a": 0.5,
    }
