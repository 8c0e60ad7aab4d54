import itertools
import warnings

import numpy as np
import pytest
import torch
from rerank_cases import PASSAGES, QUERY, scores

from index.records import Passage
from rerank import BlockRanker, PassagesTruncatedWarning
from rerank.backbones import loading


@pytest.fixture(params=["minilm", "smollm2"])
def ranker(request):
    return request.getfixturevalue(f"{request.param}_ranker")


def test_any_order_gives_every_passage_the_same_score_bit_for_bit(ranker):
    passages = PASSAGES[:4]
    texts = [p if isinstance(p, str) else p["text"] for p in passages]
    wanted = scores(ranker, QUERY, texts)
    assert len(set(wanted)) == len(wanted)
    orders = list(itertools.permutations(range(4)))
    for order in orders[5::6]:
        found = scores(ranker, QUERY, [texts[place] for place in order])
        assert found == [wanted[place] for place in order]


def test_a_late_interaction_score_depends_on_no_other_passage(minilm_ranker):
    together = scores(minilm_ranker, QUERY, PASSAGES)
    assert [scores(minilm_ranker, QUERY, [passage])[0] for passage in PASSAGES] == together


@pytest.mark.parametrize("max_tokens", [10, 40, 70])
def test_splitting_a_list_changes_no_bit(minilm_ranker, max_tokens):
    split = BlockRanker(minilm_ranker.backbone, max_tokens=max_tokens)
    assert scores(split, QUERY, PASSAGES) == scores(minilm_ranker, QUERY, PASSAGES)


def test_a_ranking(minilm_ranker):
    found = minilm_ranker.rerank(QUERY, PASSAGES)
    assert found[0].passage == PASSAGES[0]
    assert [ranked.rank for ranked in found] == [1, 2, 3, 4, 5]
    assert sorted(ranked.original_rank for ranked in found) == [1, 2, 3, 4, 5]
    assert [ranked.score for ranked in found] == sorted((r.score for r in found), reverse=True)
    for ranked in found:
        assert ranked.passage is PASSAGES[ranked.original_rank - 1]
    assert {ranked.id for ranked in found} == {"0", "pear", "2", "rain", "marlowe"}


def test_top_k(minilm_ranker):
    whole = minilm_ranker.rerank(QUERY, PASSAGES)
    assert minilm_ranker.rerank(QUERY, PASSAGES, top_k=2) == whole[:2]
    assert minilm_ranker.rerank(QUERY, PASSAGES, top_k=99) == whole
    with pytest.raises(ValueError, match="top_k is 0, wanted at least 1"):
        minilm_ranker.rerank(QUERY, PASSAGES, top_k=0)


def test_one_passage(ranker):
    (only,) = ranker.rerank(QUERY, ["Goethe wrote Faust."])
    assert (only.id, only.rank, only.original_rank) == ("0", 1, 1)
    assert np.isfinite(only.score)
    if ranker.settings.score == "mass":
        assert only.score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query_is_refused(minilm_ranker, query):
    with pytest.raises(ValueError, match="the query is empty"):
        minilm_ranker.rerank(query, PASSAGES)


def test_a_query_longer_than_the_model_reads_is_refused(minilm_ranker):
    with pytest.raises(ValueError, match=r"the query has 602 tokens .* the limit is 512"):
        minilm_ranker.rerank("faust " * 600, PASSAGES)


def test_passages_that_were_cut_are_counted_where_the_caller_stands(minilm_ranker):
    long = "Goethe wrote Faust. " * 300
    with pytest.warns(
        PassagesTruncatedWarning, match="1 of 2 passages were cut to 1024 tokens"
    ) as caught:
        minilm_ranker.rerank(QUERY, [long, "A pear."])
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minilm_ranker.rerank(QUERY, PASSAGES)


def test_token_counts_are_what_is_read(minilm_ranker):
    passages = ["A pear.", "Goethe wrote Faust. " * 300, Passage("p", "Pear", "A pear.")]
    assert minilm_ranker.token_counts(passages) == [5, 1024, 6]


def test_equal_scores_are_ordered_by_id(minilm_ranker):
    passages = [{"id": id_, "text": "A pear."} for id_ in "cab"]
    found = minilm_ranker.rerank(QUERY, passages)
    assert [ranked.id for ranked in found] == ["a", "b", "c"]
    assert len({ranked.score for ranked in found}) == 1


def test_an_unknown_model_is_one_sentence():
    with pytest.raises(ValueError, match=r"reranker 'no/such-model' is neither a local model"):
        BlockRanker.from_pretrained("no/such-model")


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="could not be read from"):
        BlockRanker.from_pretrained(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "units", "dtype"),
    [
        ("mini", True, torch.bfloat16),
        ("mini", False, torch.float32),
        ("minilm", True, torch.float32),  # of which nothing was measured
    ],
)
def test_auto_takes_bfloat16_where_it_pays_and_loses_nothing(monkeypatch, name, units, dtype):
    monkeypatch.setattr(loading, "has_bfloat16_units", lambda: units)
    ranker = BlockRanker.from_pretrained(name, device="cpu", dtype="auto")
    assert ranker.backbone.model.dtype == dtype


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="dtype is 'float8', wanted auto, float32"):
        BlockRanker.from_pretrained("minilm", dtype="float8")


def test_low_precision_ranks_the_clear_case_alike(minilm_ranker):
    half = BlockRanker.from_pretrained("minilm", device="cpu", dtype="bfloat16")
    whole, low = scores(minilm_ranker, QUERY, PASSAGES), scores(half, QUERY, PASSAGES)
    np.testing.assert_allclose(low, whole, atol=0.05)
    assert np.argmax(low) == np.argmax(whole)


def test_several_queries_in_one_call(ranker):
    queries, lists = [QUERY, "what fell?"], [PASSAGES[:3], ["Rain fell.", PASSAGES[1]]]
    together = ranker.rerank_batch(queries, lists, top_k=2)
    assert together == [ranker.rerank(*pair, top_k=2) for pair in zip(queries, lists, strict=True)]
    assert ranker.rerank_batch([], []) == []


@pytest.mark.parametrize(
    ("queries", "lists", "message"),
    [
        (["a", "b"], [["x"]], "2 queries and 1 lists of passages"),
        (["a", " "], [["x"], ["y"]], "query 2 of 2 is empty"),
        (["a", "faust " * 600], [["x"], ["y"]], r"query 2 of 2 has 602 tokens .* the limit is 512"),
        (["a", "b"], [["x"], []], "query 2 of 2: no passages to rank: the list is empty"),
    ],
)
def test_a_bad_one_of_several_queries_is_named(minilm_ranker, queries, lists, message):
    with pytest.raises(ValueError, match=message):
        minilm_ranker.rerank_batch(queries, lists)
