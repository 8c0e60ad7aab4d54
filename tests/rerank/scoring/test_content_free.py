from copy import copy
from dataclasses import replace

import pytest
from rerank_cases import PASSAGES, QUERY, load_ranker, save_model, scores

from rerank import BlockRanker
from rerank.prompt.candidates import as_candidates
from rerank.scoring.calibration import calibrated

SETTINGS = """
backbone: decoder
query_attends: true
query_position: 4096
instruction: "Rank.\\nQuery: {query}\\n\\n"
instruction_alone: "Rank.\\n\\n"
passage: "Passage: {title}\\n{text}\\n\\n"
query: "Query: {query}\\nAnswer:"
signal: query
score: mass
heads: [[1, 3], [3, 2]]
calibration: content_free
"""


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("llama"), "Llama", "smollm2")
    return load_ranker(folder, SETTINGS)


@pytest.fixture(params=["the query in the instruction", "the query alone", "late interaction"])
def ranker(request, decoder, minilm_ranker):
    if request.param == "late interaction":
        return _with(minilm_ranker, calibration="content_free")
    if request.param == "the query alone":
        backbone = copy(decoder.backbone)
        backbone.settings = replace(decoder.settings, query_in_instruction=False)
        return BlockRanker(backbone)
    return decoder


def _with(ranker, **changes):
    found = BlockRanker(ranker.backbone, max_tokens=ranker.max_tokens)
    found.settings = replace(ranker.settings, **changes)
    return found


def test_a_calibrated_score_is_the_querys_less_the_content_free_ones(ranker):
    plain = _with(ranker, calibration="none")
    of_query, of_nothing = (scores(plain, query, PASSAGES) for query in (QUERY, "N/A"))
    assert of_query != of_nothing
    assert max(of_nothing) - min(of_nothing) > 0.01  # else there is no prior to remove
    wanted = [a - b for a, b in zip(of_query, of_nothing, strict=True)]
    assert scores(ranker, QUERY, PASSAGES) == wanted


def test_another_content_free_query(decoder):
    other = _with(decoder, content_free_query="nothing at all")
    assert scores(other, "nothing at all", PASSAGES) == [0.0] * len(PASSAGES)
    assert scores(other, QUERY, PASSAGES) != scores(decoder, QUERY, PASSAGES)


def test_order_and_company_change_no_bit(ranker):
    wanted = scores(ranker, QUERY, PASSAGES)
    texts = [{"id": "a", "text": p} if isinstance(p, str) else p for p in PASSAGES]
    texts = [{**p, "id": n} for n, p in enumerate(texts)]
    order = [3, 0, 4, 2, 1]
    assert scores(ranker, QUERY, [texts[n] for n in order]) == [wanted[n] for n in order]
    other = as_candidates(["A pear.", "Rain."])
    together = ranker.scores_batch(
        ["rain?", QUERY, "pears"], [other, as_candidates(PASSAGES), other]
    )
    assert together[1] == wanted
    assert together[0] == ranker.scores("rain?", other)


def test_lists_of_unequal_length_are_our_own_mistake():
    with pytest.raises(ValueError, match="zip"):
        calibrated([0.5], [0.5, 0.5])


def test_a_ranking_carries_probabilities_where_the_settings_have_a_map(decoder):
    line = (3.0, -0.5)
    plain = decoder.rerank(QUERY, PASSAGES)
    assert {result.probability for result in plain} == {None}
    found = _with(decoder, probability=line).rerank(QUERY, PASSAGES)
    assert [result.score for result in found] == [result.score for result in plain]
    values = [result.probability for result in found]
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < values[0] < 1
