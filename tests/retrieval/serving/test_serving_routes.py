"""What clients send and get, over a real socket."""

import base64
import json

import numpy as np
import pytest

from retrieval import Retriever

# The command keeps these to itself; a log has no use for one a request.
pytestmark = pytest.mark.filterwarnings("ignore:.* passages :UserWarning")

DOCUMENTS = ["A pear.", {"text": "Goethe wrote it.", "title": "Faust"}, " ", "A pear."]


@pytest.fixture(scope="module")
def retriever(served_index):
    return Retriever.open(served_index, device="cpu")


def error(response, status):
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    (found,) = response.json().values()
    assert set(found) == {"message", "type", "param"}
    return found


def test_a_search_finds_what_the_library_finds(live, retriever):
    answer = live.post("/v1/search", json={"query": "text 3", "k": 4, "rerank": False}).json()
    (hits,) = retriever.search(["text 3"], k=4)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in hits]
    np.testing.assert_allclose(
        [hit["score"] for hit in answer["hits"]], [hit.score for hit in hits], atol=1e-6
    )
    passage = retriever.passages(hits)[0]
    first = answer["hits"][0]
    assert (first["title"], first["text"], first["rank"]) == (passage.title, passage.text, 1)
    assert (first["search_rank"], first["search_score"]) == (1, first["score"])
    assert set(answer["latency_ms"]) == {"wait", "search", "filter"}
    assert answer["generation"] == 1


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_words_are_searched_where_they_are_asked_for(live, retriever, mode):
    body = {"query": "text 3", "k": 4, "rerank": False, "mode": mode}
    answer = live.post("/v1/search", json=body).json()
    (hits,) = retriever.search(["text 3"], k=4, mode=mode)
    assert hits[0].id == "p03"
    assert [(hit["id"], hit["score"]) for hit in answer["hits"]] == [hit[:2] for hit in hits]


def test_a_condition_that_the_index_can_not_answer_is_the_clients_mistake(live):
    response = live.post("/v1/search", json={"query": "text 3", "where": "year >= 2020"})
    assert "has no metadata to search by" in error(response, 400)["message"]


def test_the_reranker_orders_the_candidates_and_the_best_come_back(live, retriever, mini):
    body = {"query": "text 3", "k": 3, "candidates": 12}
    answer = live.post("/v1/search", json=body).json()
    (hits,) = retriever.search(["text 3"], k=12)
    documents = [{"title": p.title, "text": p.text} for p in retriever.passages(hits)]
    ((scores, relevance),) = mini.rerank_batch(["text 3"], [documents])
    order = sorted(range(12), key=lambda n: (-scores[n], hits[n].id))[:3]
    assert [hit["id"] for hit in answer["hits"]] == [hits[n].id for n in order]
    assert [hit["score"] for hit in answer["hits"]] == [scores[n] for n in order]
    assert [hit["relevance"] for hit in answer["hits"]] == [relevance[n] for n in order]
    assert [hit["search_rank"] for hit in answer["hits"]] == [n + 1 for n in order]
    assert set(answer["latency_ms"]) == {"wait", "search", "filter", "rerank"}


def test_a_cosine_cuts_and_tells_what_it_cut(live):
    every = live.post("/v1/search", json={"query": "text 3", "k": 8, "rerank": False}).json()
    cosine = every["hits"][4]["score"]
    body = {"query": "text 3", "k": 8, "rerank": False, "filter": cosine, "cut": True}
    answer = live.post("/v1/search", json=body).json()
    assert answer["hits"] == [hit for hit in every["hits"] if hit["score"] >= cosine]
    assert answer["hits"] + answer["cut"] == every["hits"]
    assert answer["cut"]
    nothing = live.post("/v1/search", json={"query": "text 3", "filter": 1.5}).json()
    assert nothing["hits"] == []


def test_highlights_are_the_rerankers(live, retriever, mini):
    body = {"query": "text 3", "k": 2, "highlights": True}
    hits = live.post("/v1/search", json=body).json()["hits"]
    ids = [hit["id"] for hit in hits]
    passages = [{"title": hit["title"], "text": hit["text"]} for hit in hits]
    wanted = [
        [token._asdict() for token in each.tokens] for each in mini.highlights("text 3", passages)
    ]
    assert [hit["highlights"] for hit in hits] == wanted
    answer = live.post("/v1/highlights", json={"query": "text 3", "ids": ids}).json()
    assert answer["passages"] == [
        {"id": id_, "tokens": tokens} for id_, tokens in zip(ids, wanted, strict=True)
    ]


def test_rerank_answers_as_hosted_services_do(live, mini):
    body = {"query": "who wrote Faust?", "documents": DOCUMENTS, "top_n": 3}
    answer = live.post("/v1/rerank", json=body | {"model": "mini", "return_documents": True}).json()
    assert set(answer) == {"model", "results", "usage"}
    assert [result["index"] for result in answer["results"]] == [1, 0, 3]
    assert answer["results"][0]["document"] == DOCUMENTS[1]
    assert answer["usage"]["total_tokens"] > 10
    second = live.post("/v2/rerank", json=body).json()
    assert second["meta"] == {"tokens": {"input_tokens": answer["usage"]["total_tokens"]}}
    assert [r["index"] for r in second["results"]] == [1, 0, 3]


def test_rerank_answers_as_text_embeddings_inference_does(live):
    body = {
        "query": "who wrote Faust?",
        "texts": ["A pear.", "Goethe wrote Faust."],
        "truncate": True,
    }
    answer = live.post("/rerank", json=body | {"return_text": True}).json()
    assert [set(each) for each in answer] == [{"index", "score", "text"}] * 2
    assert answer[0]["text"] == "Goethe wrote Faust."


def test_documents_are_cut_to_the_tokens_asked_for(live):
    long = {"query": "pear", "documents": ["apple plum pear", "apple plum"]}
    whole = live.post("/v1/rerank", json=long).json()["results"]
    cut = live.post("/v1/rerank", json=long | {"max_tokens_per_doc": 2}).json()["results"]
    assert whole[0]["relevance_score"] > whole[1]["relevance_score"]
    assert cut[0]["relevance_score"] == cut[1]["relevance_score"]


def test_embeddings_have_openais_shape(live, retriever):
    texts = ["text 3", "Title 7"]
    plain = live.post("/v1/embeddings", json={"input": texts}).json()
    assert plain["object"] == "list"
    assert [each["index"] for each in plain["data"]] == [0, 1]
    found = np.array([each["embedding"] for each in plain["data"]], np.float32)
    np.testing.assert_allclose(found, retriever.encode_queries(texts), atol=1e-6)
    assert plain["usage"]["prompt_tokens"] == plain["usage"]["total_tokens"] == 8
    body = {"input": "text 3", "encoding_format": "base64", "model": plain["model"]}
    (coded,) = live.post("/v1/embeddings", json=body).json()["data"]
    decoded = np.frombuffer(base64.b64decode(coded["embedding"]), "<f4")
    np.testing.assert_array_equal(decoded, found[0])


def test_health_says_what_is_served_and_no_path(live, served_index):
    health = live.get("/health").json()
    assert health["status"] == "ok"
    modes = ["dense", "lexical", "hybrid"]
    index = {"passages": 60, "generation": 1, "modes": modes, "columns": [], "fault": ""}
    assert health["index"] == index
    assert health["reranker"] == {
        "name": "mini", "cache": "none: no rerank-cache", "cached_passages": 0,
    }  # fmt: skip
    assert health["encoder"] == {"name": "encoder", "dimension": 32}
    assert str(served_index) not in live.get("/health").text
    assert live.get("/ready").json() == {"ready": True}


def test_metrics_count_requests_batches_and_tokens(live):
    live.post("/v1/rerank", json={"query": "a", "documents": ["b"]})
    live.post("/v1/search", json={"query": ""})
    live.get("/no/such/<path>")
    text = live.get("/metrics").text
    for line in (
        'blockseek_requests_total{route="/v1/rerank",status="200"}',
        'blockseek_requests_total{route="/v1/search",status="400"}',
        'blockseek_requests_total{route="other",status="404"}',
        'blockseek_request_seconds_bucket{le="0.5",route="/v1/rerank"}',
        'blockseek_batch_requests_count{worker="rerank"}',
        'blockseek_queue_requests{worker="search"} 0.0',
        'blockseek_tokens_total{route="/v1/rerank"}',
        "blockseek_index_generation 1.0",
    ):
        assert line in text
    assert "such" not in text


def test_the_description_names_every_route(live):
    paths = live.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/v1/search", "/v1/highlights", "/v1/rerank", "/v2/rerank", "/v1/embeddings", "/health",
        "/ready", "/metrics",
    }  # fmt: skip


SEARCH, MARK, RERANK, EMBED = "/v1/search", "/v1/highlights", "/v1/rerank", "/v1/embeddings"
ASK = {"query": "a"}
RANK = {"query": "a", "documents": ["b"]}


@pytest.mark.parametrize(
    ("route", "body", "status", "message", "field"),
    [
        (SEARCH, {}, 400, "'query' is missing", "query"),
        (SEARCH, {"query": 3}, 400, "'query' is 3, wanted a valid string", "query"),
        (SEARCH, {"query": " "}, 400, "'query' is empty", "query"),
        (SEARCH, {"query": "a\ud800"}, 400, "'query' has half of a surrogate", "query"),
        (SEARCH, ASK | {"k": 0}, 400, "'k' is 0, wanted greater", "k"),
        (SEARCH, ASK | {"k": True}, 400, "'k' is True, wanted a valid integer", "k"),
        (SEARCH, ASK | {"k": 1001}, 400, "'k': 1001 documents, and the limit is 1000", "k"),
        (SEARCH, ASK | {"candidates": 5000}, 400, "'candidates': 5000 documents", "candidates"),
        (SEARCH, ASK | {"index": "/etc"}, 400, "unknown field 'index'; known: query,", "index"),
        (SEARCH, ASK | {"filter": True}, 404, "no filter is served", None),
        (SEARCH, ASK | {"filter": "/etc"}, 400, "'filter' is '/etc', wanted", "filter"),
        (SEARCH, ASK | {"mode": "any"}, 400, "'mode' is 'any', wanted 'dense', 'lex", "mode"),
        (SEARCH, [], 400, "the request is a list", None),
        (MARK, ASK | {"ids": []}, 400, "'ids' is []", "ids"),
        (MARK, ASK | {"ids": ["p01", "p01"]}, 400, "'ids' has one of them twice", "ids"),
        (MARK, ASK | {"ids": ["no"]}, 400, "the index has no passage 'no'", None),
        (RERANK, ASK | {"documents": []}, 400, "'documents' is missing or empty", "documents"),
        (RERANK, ASK | {"documents": [3]}, 400, "'documents'[0]: a int, wanted", "documents"),
        (RERANK, RANK | {"model": "x"}, 404, "'model' is 'x', and 'mini' is served", "model"),
        (RERANK, RANK | {"query": "a " * 9999}, 400, "the query has 1", None),
        (RERANK, RANK | {"top_n": -1}, 400, "'top_n' is -1", "top_n"),
        (EMBED, {"input": []}, 400, "'input' is empty", "input"),
        (EMBED, {"input": ["a", ""]}, 400, "'input'[1] is empty", "input"),
        (EMBED, {"input": [[1, 2]]}, 400, "'input' is", "input"),
        (EMBED, {"input": "a", "model": "x"}, 404, "'model' is 'x', and 'encoder'", "model"),
        (EMBED, {"input": "a", "dimensions": 8}, 400, "'dimensions' is 8", "dimensions"),
        ("/v1/nothing", {}, 404, "there is no route '/v1/nothing'", None),
    ],
)
def test_a_bad_request_gets_one_sentence_that_names_the_field(
    live, route, body, status, message, field
):
    found = error(live.post(route, content=json.dumps(body)), status)
    assert found["message"].startswith(message)
    assert found["param"] == field
    assert "\n" not in found["message"]


def test_keys_guard_every_route_but_the_probe(make_service, served_index, running):
    key = "a-key-of-16-chars"
    service = make_service(served_index, rerank=False)
    with running(service, keys=(key,), loopback=False) as (client, _):
        for route in ("/health", "/metrics", "/openapi.json", "/nothing"):
            assert error(client.get(route), 401)["type"] == "authentication_error"
        refused = client.post("/v1/search", json=ASK)
        assert "Authorization: Bearer KEY" in error(refused, 401)["message"]
        assert refused.headers["www-authenticate"] == "Bearer"
        assert client.get("/ready").status_code == 200
        client.headers["authorization"] = f"Bearer {key}"
        assert client.post("/v1/search", json=ASK).status_code == 200
        assert key not in client.get("/metrics").text


def test_what_needs_a_reranker_says_how_to_get_one(make_service, served_index, running):
    with running(make_service(served_index, rerank=False)) as (client, _):
        assert client.get("/health").json()["reranker"] is None
        assert "rerank" not in client.post("/v1/search", json={"query": "a"}).json()["latency_ms"]
        for route, body in (
            ("/v1/search", {"query": "a", "rerank": True}),
            ("/v1/highlights", {"query": "a", "ids": ["p01"]}),
            ("/v1/rerank", {"query": "a", "documents": ["b"]}),
        ):
            assert "--rerank MODEL" in error(client.post(route, json=body), 404)["message"]
