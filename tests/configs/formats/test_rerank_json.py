"""The JSON of rerank services without a model: what is read, and in which order results come."""

import pytest

from configs.formats.rerank_json import read_request, write_response

BODY = {"query": "who?", "documents": ["A pear.", {"text": "Goethe.", "title": "Faust"}, " ", "B"]}
TEI = {"query": "who?", "texts": ["A pear.", "Goethe."]}


def answer(body, scores, relevance=None):
    relevance = [score / 10 for score in scores] if relevance is None else relevance
    return write_response(
        read_request(body), scores=scores, relevance=relevance, tokens=7, model="mini"
    )


def test_results_come_by_score_then_place_blank_ones_last():
    found = answer(BODY, [1.0, 2.0, 1.0, 1.0])
    assert [result["index"] for result in found["results"]] == [1, 0, 3, 2]
    assert [result["relevance_score"] for result in found["results"]] == [0.2, 0.1, 0.1, 0.1]
    assert (found["model"], found["usage"]) == ("mini", {"total_tokens": 7})


def test_the_best_come_back_with_their_documents():
    (best,) = answer(BODY | {"top_n": 1, "return_documents": True}, [1.0, 2.0, 0.0, 1.0])["results"]
    assert best == {"index": 1, "relevance_score": 0.2, "document": BODY["documents"][1]}


def test_the_shape_of_text_embeddings_inference():
    assert answer(TEI, [1.0, 2.0]) == [{"index": 1, "score": 0.2}, {"index": 0, "score": 0.1}]
    raw = answer(TEI | {"raw_scores": True, "return_text": True}, [1.0, 2.0])
    assert raw[0] == {"index": 1, "score": 2.0, "text": "Goethe."}
    assert len(raw) == 2


def test_what_changes_no_score_is_taken():
    request = read_request(BODY | {"priority": 1, "user": "me", "truncate": True})
    assert request == read_request(BODY)
    assert read_request(BODY | {"max_tokens_per_doc": 9}).max_tokens_per_doc == 9


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (BODY | {"max_tokens_per_doc": 0}, "'max_tokens_per_doc' is 0, wanted a whole number"),
        (BODY | {"return_text": True}, "unknown field 'return_text'; known: model, query, doc"),
        (BODY | {"texts": []}, "unknown field 'texts'"),
        (TEI | {"top_n": 1}, "unknown field 'top_n'; known: query, texts"),
        (TEI | {"texts": []}, "'texts' is missing or empty"),
        (TEI | {"texts": [None]}, r"'texts'\[0\]: None, wanted a string"),
        (TEI | {"raw_scores": 1}, "'raw_scores' is 1, wanted true or false"),
        (BODY | {"documents": [{"text": "\ud800"}]}, r"'documents'\[0\]: the text has half of a"),
        (BODY | {"documents": [{"title": "a"}]}, r"'documents'\[0\]: no text: none of"),
    ],
)
def test_a_bad_request_names_its_field(body, message):
    with pytest.raises(ValueError, match=message):
        read_request(body)
