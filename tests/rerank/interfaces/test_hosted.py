import copy
import json
import math
from dataclasses import replace

import pytest

from rerank import BlockRanker
from rerank.interfaces.hosted import read_request, respond

BODY = {
    "query": "who wrote Faust?",
    "documents": ["A pear.", {"text": "Goethe wrote it.", "title": "Faust"}, "A pear."],
}


def test_the_response_has_the_shape_of_hosted_services(minilm_ranker):
    response = respond(minilm_ranker, BODY, "minilm")
    assert set(response) == {"model", "results", "usage"}
    assert response["model"] == "minilm"
    assert [result["index"] for result in response["results"]] == [1, 0, 2]  # ties by place
    assert all(set(result) == {"index", "relevance_score"} for result in response["results"])
    expected = minilm_ranker.rerank(BODY["query"], BODY["documents"])
    found = [result["relevance_score"] for result in response["results"]]
    assert found == [ranked.score for ranked in expected]
    counts = minilm_ranker.token_counts(BODY["documents"])
    assert response["usage"]["total_tokens"] > sum(counts)
    json.dumps(response, allow_nan=False)


def test_top_n_and_the_documents_themselves(minilm_ranker):
    body = BODY | {"model": "minilm", "top_n": 1, "return_documents": True}
    (result,) = respond(minilm_ranker, body, "minilm")["results"]
    assert result["document"] == {"title": "Faust", "text": "Goethe wrote it."}


def test_a_score_is_a_probability_where_the_settings_have_a_map(minilm_ranker):
    plain = respond(minilm_ranker, BODY, "minilm")["results"]
    backbone = copy.copy(minilm_ranker.backbone)
    backbone.settings = replace(backbone.settings, probability=(4.0, -1.0))
    mapped = respond(BlockRanker(backbone), BODY, "minilm")["results"]
    for before, after in zip(plain, mapped, strict=True):
        expected = 1 / (1 + math.exp(1 - 4 * before["relevance_score"]))
        assert after == {"index": before["index"], "relevance_score": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": " "}, "'query' is empty: it has no visible character"),
        ({"query": "Faust\ud800"}, "'query' has half of a surrogate pair at character 6"),
        ({"query": 3}, "'query' is missing or no string"),
        ({"documents": []}, "'documents' is missing or empty"),
        ({"documents": "A pear."}, "'documents' is missing or empty"),
        ({"documents": ["A pear.", {"image": "x"}]}, r"'documents'\[1\]: no text: none of"),
        ({"documents": ["A pear.", 3]}, r"'documents'\[1\]: a int, wanted a string or"),
        ({"top_n": 0}, "'top_n' is 0"),
        ({"top_n": True}, "'top_n' is True"),
        ({"return_documents": "yes"}, "'return_documents' is 'yes'"),
        ({"model": 1}, "'model' is 1"),
        ({"topn": 3}, "unknown field 'topn'; known: model"),
    ],
)
def test_a_bad_request_names_its_field(change, message):
    with pytest.raises(ValueError, match=message):
        read_request(BODY | change)


def test_a_request_is_an_object_and_asks_for_the_model_that_is_loaded(minilm_ranker):
    with pytest.raises(ValueError, match="the request is a list"):
        read_request([])
    with pytest.raises(ValueError, match="'model' is 'other', and 'minilm' is loaded"):
        respond(minilm_ranker, BODY | {"model": "other"}, "minilm")
