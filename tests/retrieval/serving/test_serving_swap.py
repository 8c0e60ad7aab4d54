"""The index changes under those who ask."""

import json
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrieval import Passage, add_passages


@pytest.fixture
def folder(made_index, tmp_path):
    folder = tmp_path / "index"
    shutil.copytree(made_index, folder)
    return folder


def passages_served(client):
    return client.get("/health").json()["index"]["passages"]


def test_a_changed_index_takes_over_without_a_failed_request(
    make_service, folder, running, wait_for
):
    with running(make_service(folder)) as (client, _), ThreadPoolExecutor(4) as pool:
        stop = threading.Event()

        def ask(number):
            statuses = set()
            while not stop.is_set():
                body = {"query": f"text {number}", "k": 5, "rerank": number == 0}
                answer = client.post("/v1/search", json=body)
                statuses.add((answer.status_code, answer.json()["generation"]))
            return statuses

        asking = [pool.submit(ask, number) for number in range(4)]
        try:
            for generation in (2, 3):
                text = f"brand new passage {generation}"
                add_passages(folder, [Passage(f"new{generation}", "", text)], device="cpu")
                wait_for(lambda g=generation: passages_served(client) == 59 + g)
        finally:
            stop.set()
        seen = set.union(*(each.result() for each in asking))
        assert {status for status, _ in seen} == {200}
        assert {generation for _, generation in seen} >= {1, 2}
        found = client.post("/v1/search", json={"query": "brand new passage 3", "k": 2}).json()
        assert "new3" in {hit["id"] for hit in found["hits"]}
        assert "blockseek_index_generation 3.0" in client.get("/metrics").text


def test_what_cannot_be_opened_is_told_and_the_old_one_served(
    make_service, folder, running, wait_for
):
    with running(make_service(folder)) as (client, _):
        (folder / "manifest.json").write_text("{}")
        wait_for(lambda: client.get("/health").json()["index"]["fault"])
        health = client.get("/health")
        assert health.json()["index"]["generation"] == 1
        assert str(folder) not in health.text
        assert client.post("/v1/search", json={"query": "text 3"}).status_code == 200


def test_requests_in_flight_end_on_the_old_index(make_service, folder, running, wait_for):
    service = make_service(folder, rerank=False)
    started, go = threading.Event(), threading.Event()
    plain = service.engine.search

    with running(service) as (client, _), ThreadPoolExecutor(1) as pool:

        def hold(asked):
            started.set()
            assert go.wait(60)
            return plain(asked)

        object.__setattr__(service.engine, "search", hold)
        early = pool.submit(client.post, "/v1/search", json={"query": "text 3", "k": 100})
        assert started.wait(30)
        add_passages(folder, [Passage("new", "", "text 3")], device="cpu")
        wait_for(lambda: passages_served(client) == 61)
        go.set()
        answer = early.result().json()
        assert (answer["generation"], len(answer["hits"])) == (1, 60)
        answer = client.post("/v1/search", json={"query": "text 3", "k": 100}).json()
        assert (answer["generation"], len(answer["hits"])) == (2, 61)


def test_a_cache_beside_the_index_is_used_where_it_fits(
    make_service, folder, running, run_module, made_corpus, minilm_ranker, mini, wait_for
):
    cache = folder / "rerank-cache"
    body = {"query": "text 3", "k": 6}
    with running(make_service(folder)) as (client, server):
        plain = client.post("/v1/search", json=body).json()["hits"]
        built = run_module(
            "rerank", "cache", "build", "mini", "--passages", made_corpus, "--out", cache,
            "--bits", 32, "--device", "cpu",
        )  # fmt: skip
        assert built.returncode == 0, built.stderr
        server.hang_up()
        wait_for(lambda: client.get("/health").json()["index"]["generation"] == 2)
        reranker = client.get("/health").json()["reranker"]
        assert reranker == {"name": "mini", "cache": "used", "cached_passages": 60}
        calls = []
        read = type(mini._ranker).scores_batch

        def count(ranker, queries, lists):
            calls.extend(queries)
            return read(ranker, queries, lists)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(mini._ranker), "scores_batch", count)
            cached = client.post("/v1/search", json=body).json()["hits"]
            assert calls == []
            assert [hit["id"] for hit in cached] == [hit["id"] for hit in plain]
            assert [hit["score"] for hit in cached] == pytest.approx(
                [hit["score"] for hit in plain], abs=1e-5
            )
            client.post("/v1/rerank", json={"query": "a", "documents": ["not of the index"]})
            assert calls == ["a"]
            bodies = [{"query": f"title {n} text", "k": 2 + n % 5} for n in range(12)]

            def hits(body):
                return client.post("/v1/search", json=body).json()["hits"]

            alone = list(map(hits, bodies))
            with ThreadPoolExecutor(12) as pool:  # read together, and no bit of a score tells it
                assert list(pool.map(hits, bodies)) == alone
            assert calls == ["a"]
        manifest = json.loads((cache / "manifest.json").read_text())
        manifest["identity"]["fingerprint"] = "another"
        (cache / "manifest.json").write_text(json.dumps(manifest))
        server.hang_up()
        wait_for(lambda: client.get("/health").json()["index"]["generation"] == 3)
        reranker = client.get("/health").json()["reranker"]
        assert reranker["cache"].startswith("not used")
        assert reranker["cached_passages"] == 0


def test_the_first_signal_drains(make_service, folder, running, wait_for):
    """Running requests get their answers, new ones 503, and the server ends by itself."""
    service = make_service(folder, rerank=False)
    started, go = threading.Event(), threading.Event()
    plain = service.engine.search

    def hold(asked):
        started.set()
        assert go.wait(60)
        return plain(asked)

    with running(service) as (client, server), ThreadPoolExecutor(1) as pool:
        object.__setattr__(service.engine, "search", hold)
        early = pool.submit(client.post, "/v1/search", json={"query": "text 3"})
        assert started.wait(30)
        server.handle_exit(signal.SIGTERM, None)
        refused = client.post("/v1/search", json={"query": "text 4"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["connection"] == "close"
        assert client.get("/ready").status_code == 503
        assert client.get("/health").json()["status"] == "draining"
        assert not server.should_exit
        go.set()
        assert early.result().status_code == 200
        wait_for(lambda: server.should_exit)
