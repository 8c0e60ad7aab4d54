"""Passages that can be seen, and of which the model knows no token: last, with a sane score."""

import copy
import json
import math
from dataclasses import replace

import pytest
from rerank_cases import PASSAGES, QUERY

from rerank import BlockRanker

# BERT's tokenizer drops the replacement character that stands for broken bytes.
UNREAD = ["\ufffd\ufffd", {"id": "broken", "title": "\ufffd", "text": ""}]


@pytest.fixture(params=["none", "content_free", "mini"])
def ranker(request, minilm_ranker):
    if request.param == "mini":
        return BlockRanker.from_pretrained(device="cpu")
    backbone = copy.copy(minilm_ranker.backbone)
    backbone.settings = replace(backbone.settings, calibration=request.param)
    return BlockRanker(backbone)


def test_they_come_last_a_little_below_the_others(ranker):
    wanted = ranker.rerank(QUERY, PASSAGES)
    found = ranker.rerank(QUERY, [*PASSAGES, *UNREAD])
    assert [r[:2] for r in found[:5]] == [r[:2] for r in wanted]
    assert {r.original_rank for r in found[5:]} == {6, 7}
    assert [r.score for r in found[5:]] == [wanted[-1].score - 1] * 2
    json.dumps([r.score for r in found], allow_nan=False)


def test_order_and_splits_change_nothing(ranker):
    passages = [UNREAD[0], *PASSAGES, UNREAD[1]]
    wanted = ranker.scores(QUERY, passages)
    order = [3, 0, 6, 4, 2, 1, 5]
    named = [p if isinstance(p, dict) else {"id": n, "text": p} for n, p in enumerate(passages)]
    assert ranker.scores(QUERY, [named[n] for n in order]) == [wanted[n] for n in order]
    small = BlockRanker(ranker.backbone, max_tokens=40)
    assert small.scores(QUERY, passages) == wanted


def test_none_but_them(ranker):
    assert [r.score for r in ranker.rerank(QUERY, UNREAD)] == [-1.0, -1.0]


def test_a_cache_says_the_same(ranker):
    passages = [UNREAD[0], *PASSAGES, UNREAD[1]]
    cache = ranker.cache(passages, bits=32)
    without = ranker.rerank(QUERY, passages)
    found = ranker.rerank(QUERY, passages, cache=cache)
    assert [r.id for r in found] == [r.id for r in without]
    assert [r.score for r in found] == pytest.approx([r.score for r in without], abs=1e-5)
    assert cache.scores(QUERY, ["broken"]) == [-1.0]


def test_their_highlights_are_no_numbers_out_of_nothing(ranker):
    found = ranker.highlights(QUERY, [*UNREAD, "Goethe."])
    assert [each.mass for each in found] == [0, 0, pytest.approx(1)]
    assert all(math.isfinite(each.mass) for each in ranker.highlights(QUERY, UNREAD))


def test_a_query_of_such_is_refused_by_name(minilm_ranker):
    with pytest.raises(ValueError, match="the query has no token of its own to score with"):
        minilm_ranker.rerank("\ufffd", PASSAGES)
    with pytest.raises(ValueError, match="query 2 of 2 has no token of its own to score with"):
        minilm_ranker.rerank_batch([QUERY, "\ufffd"], [PASSAGES, PASSAGES])
