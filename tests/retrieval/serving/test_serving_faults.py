"""What goes wrong around a service, and that nobody else notices."""

import asyncio
import json
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

# The command keeps these to itself; a log has no use for one a request.
pytestmark = pytest.mark.filterwarnings("ignore:.* passages :UserWarning")


def raw(client, request, answer=True):
    """Send bytes; what comes back until the server closes, if wanted."""
    with socket.create_connection((client.base_url.host, client.base_url.port), 30) as connection:
        connection.sendall(request)
        if not answer:
            return b""
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
        return b"".join(parts)


def post(body, route="/v1/rerank", close=True, length=None):
    last = b"Connection: close\r\n" if close else b""
    size = len(body) if length is None else length
    head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n".encode()
    return head + last + b"\r\n" + body


def message(response):
    return response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "broken JSON"),
        (b"{", "broken JSON"),
        (b'{"query": "a"', "broken JSON"),
        (b'{"query": NaN}', "NaN is no JSON number"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 200_000, "nests too deeply"),
        (b'{"query": ' + b"9" * 5000 + b"}", "broken JSON"),
        (b"\x00", "broken JSON"),
    ],
)
@pytest.mark.parametrize("route", ["/v1/search", "/v1/rerank"])
def test_malformed_json(live, route, body, said):
    response = live.post(route, content=body)
    assert response.status_code == 400
    assert said in message(response)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_the_limit(live, announced):
    body = json.dumps({"query": "a", "documents": ["x" * 10_000_000]}).encode()
    chunks = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    response = live.post("/v1/rerank", content=body if announced else chunks)
    assert response.status_code == 413
    assert message(response) == "the body has more bytes than the limit of 4194304"
    assert live.get("/ready").status_code == 200


def test_a_body_that_does_not_come_and_bodies_that_are_too_many(monkeypatch):
    from retrieval.serving import limits

    async def handed_on(scope, receive, send):
        await receive()
        inside.append((await receive())["type"])

    async def ask(limit, messages):
        async def receive():
            if not messages:
                await asyncio.Event().wait()
            return messages.pop(0)

        async def send(message):
            sent.append(message.get("status"))

        await limit({"type": "http", "headers": []}, receive, send)

    def part(size, more):
        return {"type": "http.request", "body": b"x" * size, "more_body": more}

    sent, inside = [], []
    gone = {"type": "http.disconnect"}
    asyncio.run(ask(limits.BodyLimit(handed_on, 10, seconds=0.01), [part(3, True)]))
    assert sent[0] == 408
    monkeypatch.setattr(limits, "_BODIES", 1)
    limit = limits.BodyLimit(handed_on, 10, seconds=60)

    async def two():
        first = asyncio.ensure_future(ask(limit, [part(6, False)]))
        while limit._held < 6:
            await asyncio.sleep(0)
        await ask(limit, [part(6, False), gone])
        first.cancel()

    sent.clear()
    asyncio.run(two())
    assert sent[0] == 429
    assert limit._held == 0
    asyncio.run(ask(limit, [part(6, True), part(4, False), gone]))
    assert inside == ["http.disconnect"]


def test_ten_thousand_documents(live):
    response = live.post("/v1/rerank", json={"query": "a", "documents": ["b"] * 10_000})
    assert response.status_code == 400
    assert message(response) == "'documents': 10000 documents, and the limit is 1000"


def test_more_tokens_than_a_request_may_have_read(make_service, served_index, running):
    from retrieval.serving.limits import Limits

    with running(make_service(served_index, limits=Limits(tokens=100))) as (client, _):
        response = client.post("/v1/rerank", json={"query": "a", "documents": ["b " * 300]})
        assert response.status_code == 400
        assert "and the limit is 100" in message(response)
        body = {"query": "a", "documents": ["b " * 300], "max_tokens_per_doc": 20}
        assert client.post("/v1/rerank", json=body).status_code == 200


def test_empty_documents_and_one_of_a_megabyte(live):
    body = {"query": "pear", "documents": ["", {"text": ""}, "pear " * 200_000, "apple"]}
    results = live.post("/v1/rerank", json=body).json()["results"]
    assert [result["index"] for result in results] == [2, 3, 0, 1]
    body = {"query": "pear", "documents": ["", "\u200b"]}
    results = live.post("/v1/rerank", json=body).json()["results"]
    assert [result["index"] for result in results] == [0, 1]


def test_a_client_that_is_killed_in_the_middle(live):
    body = json.dumps({"query": "a", "documents": ["b"] * 50}).encode()
    for request in (
        post(body[:20], length=len(body)),
        post(body),
        post(body)[:30],
        b"\r\n",
        b"GARBAGE",
    ):
        raw(live, request, answer=False)
    assert live.post("/v1/rerank", content=body).status_code == 200


def test_a_request_is_not_computed_for_a_client_that_has_gone(
    make_service, served_index, running, wait_for
):
    """The queue does not fill with what nobody waits for."""
    service = make_service(served_index)
    started, go = threading.Event(), threading.Event()

    def hold(requests):
        started.set()
        assert go.wait(60)
        return requests

    with running(service) as (client, server):
        loop = server._tasks[0].get_loop()
        held = asyncio.run_coroutine_threadsafe(service.search.ask(hold, 0), loop)
        assert started.wait(30)
        with socket.create_connection(("127.0.0.1", client.base_url.port), 30) as connection:
            connection.sendall(post(b'{"query": "gone"}', "/v1/search", close=False))
            wait_for(lambda: len(service.search) == 1)
        wait_for(lambda: len(service.search) == 0)
        go.set()
        held.result(30)
        metrics = client.get("/metrics").text
        assert 'blockseek_requests_total{route="/v1/search",status="499"} 1.0' in metrics


def test_past_the_limit_is_429_and_says_when_to_come_again(
    make_service, served_index, running, wait_for
):
    from retrieval.serving.batching import QueueLimits

    service = make_service(served_index, queue=QueueLimits(waiting=3))
    started, go = threading.Event(), threading.Event()

    def hold(requests):
        started.set()
        assert go.wait(60)
        return requests

    with running(service) as (client, server), ThreadPoolExecutor(8) as pool:
        loop = server._tasks[0].get_loop()
        held = asyncio.run_coroutine_threadsafe(service.search.ask(hold, 0), loop)
        assert started.wait(30)
        body = {"query": "text 1", "rerank": False}
        waiting = [pool.submit(client.post, "/v1/search", json=body) for _ in range(3)]
        wait_for(lambda: len(service.search) == 3)
        refused = client.post("/v1/search", json=body)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert message(refused) == "3 requests wait and the limit is 3: come again later"
        go.set()
        assert [each.result().status_code for each in waiting] == [200] * 3
        held.result(30)
        assert client.post("/v1/search", json=body).status_code == 200


def answers(response):
    """What must not depend on the company: all but times and the request's own number."""
    assert response.status_code == 200
    found = response.json()
    return {k: v for k, v in found.items() if k not in ("latency_ms", "id")}


def test_scores_do_not_depend_on_who_else_is_served(live):
    """Bit for bit, under load, and when two ask the same at once."""
    requests = []
    for number in range(24):
        query = " ".join(["text", "title", "word", "9"][: 1 + number % 4]) + f" {number % 12}"
        requests.append(
            ("/v1/search", {"query": query, "k": 3 + number % 2, "rerank": number % 3 == 0})
        )
        requests.append(("/v1/embeddings", {"input": [query, "text"]}))
        documents = [f"passage {n} of {query} " + "long " * (7 * n) for n in range(1 + number % 5)]
        requests.append(("/v2/rerank", {"query": query, "documents": documents}))
    requests += requests[:6]
    alone = [answers(live.post(route, json=body)) for route, body in requests]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda r: answers(live.post(r[0], json=r[1])), requests * 2))
    assert together == alone * 2
    batches = [line for line in live.get("/metrics").text.splitlines() if "batch_requests_" in line]
    counts = {line.split()[0]: float(line.split()[1]) for line in batches if "bucket" not in line}
    for worker in ("search", "rerank"):  # else nothing was together
        name = f'blockseek_batch_requests_%s{{worker="{worker}"}}'
        assert counts[name % "sum"] > counts[name % "count"]


def test_the_folder_may_go_while_it_is_served(make_service, made_index, tmp_path, running):
    folder = tmp_path / "index"
    shutil.copytree(made_index, folder)
    with running(make_service(folder)) as (client, _):
        body = {"query": "text 3", "k": 60}
        before = answers(client.post("/v1/search", json=body))
        shutil.rmtree(folder)
        assert answers(client.post("/v1/search", json=body)) == before
        assert answers(client.post("/v1/search", json=body | {"query": "text 4"}))["hits"]
        assert client.get("/health").json()["index"]["generation"] == 1


def test_what_fails_inside_is_told_without_a_trace(
    make_service, served_index, running, monkeypatch, capsys
):
    service = make_service(served_index)

    body = {"query": "my private words"}

    def fail(*_):
        raise RuntimeError(body["query"])

    with running(service) as (client, _):
        monkeypatch.setattr(service.engine.retriever.index, "search", fail)
        response = client.post("/v1/search", json=body)
        assert response.status_code == 500
        assert message(response) == "the service failed; its log says where"
    told = capsys.readouterr().err
    assert "RuntimeError" in told
    assert "engine.py" in told
    assert "private" not in told
