"""A service over an index of chunks: hits as documents, and where each text stands."""

import json

import pytest

from retrieval import Encoder, IndexSettings, Retriever, build_index

SENTENCES = [f"Sentence number {n} says word{n} and nothing else." for n in range(40)]
TEXTS = {"long": " ".join(SENTENCES), "a": " ".join(SENTENCES[:9]), "one": "One short sentence."}
BODY = {"query": "word7 and word8", "k": 2, "filter": False, "rerank": False}


@pytest.fixture(scope="module")
def folder(tiny_encoder, tmp_path_factory):
    made = tmp_path_factory.mktemp("documents")
    rows = [{"_id": id_, "title": "", "text": text} for id_, text in TEXTS.items()]
    (made / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = IndexSettings(encoder=str(tiny_encoder), chunk=20, overlap=5)
    build_index(str(made / "corpus.jsonl"), made / "index", settings, device="cpu")
    return made / "index"


@pytest.fixture(scope="module")
def retriever(folder, tiny_encoder):
    return Retriever.open(folder, encoder=Encoder.load(str(tiny_encoder), device="cpu"))


@pytest.fixture(scope="module")
def client(make_service, folder, running):
    with running(make_service(folder)) as (client, _):
        yield client


@pytest.mark.parametrize("group", ["best", "sum3"])
def test_hits_are_the_documents_that_the_library_finds(client, retriever, group):
    answer = client.post("/v1/search", json=BODY | {"group": group}).json()
    (wanted,) = retriever.search(BODY["query"], 2, group=group)
    hits = answer["hits"]
    assert [(hit["id"], hit["rank"]) for hit in hits] == [(hit.id, hit.rank) for hit in wanted]
    assert [hit["search_score"] for hit in hits] == pytest.approx([hit.score for hit in wanted])
    for hit in hits:
        assert hit["document"] == hit["id"]
        assert hit["text"] == TEXTS[hit["id"]][hit["start"] : hit["end"]]


def test_without_a_group_hits_are_chunks_that_say_where_they_stand(client):
    hits = client.post("/v1/search", json=BODY | {"k": 20}).json()["hits"]
    assert len({hit["document"] for hit in hits}) < len(hits)
    for hit in hits:
        assert hit["id"] == f"{hit['document']}#{hit['start']}-{hit['end']}"
        assert hit["text"] == TEXTS[hit["document"]][hit["start"] : hit["end"]]


def test_the_best_chunk_of_each_document_is_reranked(client, mini):
    body = BODY | {"k": 1, "candidates": 3, "group": "best", "rerank": True, "highlights": True}
    (best,) = client.post("/v1/search", json=body).json()["hits"]
    found = client.post("/v1/search", json=body | {"k": 3, "rerank": False}).json()["hits"]
    documents = [{"title": "", "text": hit["text"]} for hit in found]
    ((scores, _),) = mini.rerank_batch([BODY["query"]], [documents])
    assert best["score"] == pytest.approx(max(scores), abs=1e-5)
    assert best["id"] == found[max(range(3), key=scores.__getitem__)]["id"]
    assert {token["field"] for token in best["highlights"]} == {"text"}


def test_a_filter_cuts_chunks_and_what_is_left_is_grouped(client, retriever):
    body = BODY | {"group": "sum3", "k": 3, "cut": True}
    every = client.post("/v1/search", json=body).json()["hits"]
    (chunks,) = retriever.search(BODY["query"], 2)
    cosine = chunks[1].score - 1e-4
    answer = client.post("/v1/search", json=body | {"filter": cosine}).json()
    (wanted,) = retriever.search(BODY["query"], 3, retriever.open_filter(str(cosine)), group="sum3")
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in wanted]
    kept = {hit["id"] for hit in answer["hits"]}
    assert {hit["id"] for hit in answer["cut"]} == {hit["id"] for hit in every} - kept
    assert answer["cut"]


def test_a_group_of_another_name_is_the_clients_mistake(client):
    response = client.post("/v1/search", json=BODY | {"group": "mean"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "group"
