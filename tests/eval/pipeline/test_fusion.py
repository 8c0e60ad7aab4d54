from eval.pipeline.fusion import reciprocal_rank_fusion


def test_ranks_are_added_up_as_by_hand():
    first = {"q": {"a": 9.0, "b": 8.0, "c": 1.0}}
    second = {"q": {"c": 0.9, "a": 0.2}}
    (fused,) = reciprocal_rank_fusion([first, second], k=10).values()
    assert fused == {"a": 1 / 61 + 1 / 62, "c": 1 / 63 + 1 / 61, "b": 1 / 62}
    assert list(fused) == ["a", "c", "b"]


def test_ties_go_by_id_and_depth_is_kept():
    run = {"q": {"b": 1.0, "a": 1.0, "c": 0.5}}
    assert list(reciprocal_rank_fusion([run], k=2)["q"]) == ["a", "b"]


def test_a_query_that_one_run_lacks_keeps_the_others_order():
    fused = reciprocal_rank_fusion([{"q": {}}, {"q": {"x": 2.0, "y": 1.0}, "r": {"z": 1.0}}], k=5)
    assert {query: list(scores) for query, scores in fused.items()} == {"q": ["x", "y"], "r": ["z"]}
