import itertools
import math
import threading
from types import SimpleNamespace

import pytest
from chat_server import ChatServer, completion

from eval.judging.readers import Failure, Prompt, endpoint
from eval.judging.readers.endpoint import EndpointReader, Patience

QUICK = Patience(attempts=3, timeout_s=20, first_pause_s=0.01, longest_pause_s=0.2)


def echo(request):
    return completion(request["messages"][-1]["content"].upper())


def ask(server, *users, concurrency=4, patience=QUICK):
    reader = EndpointReader(server.url, "m", concurrency=concurrency, patience=patience)
    return dict(reader.answers([Prompt("", user) for user in users], 5))


def test_every_prompt_gets_its_own_answer_and_the_protocol_is_kept():
    with ChatServer(lambda request, _: (200, {}, echo(request))) as server:
        reader = EndpointReader(server.url + "/", "my-model", patience=QUICK)
        prompts = [Prompt("be short", f"text {number}") for number in range(40)]
        answers = dict(reader.answers(prompts, 7))
        assert answers == {number: f"TEXT {number}" for number in range(40)}
        sent = server.requests[0]
        assert sent["path"] == "/v1/chat/completions"
        assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("my-model", 7, 0)
        assert sent["messages"][0] == {"role": "system", "content": "be short"}
        assert server.requests[0].keys() == {
            "path", "model", "max_tokens", "temperature", "messages"
        }  # fmt: skip


def test_requests_run_side_by_side_up_to_the_limit():
    together = threading.Barrier(6)

    def with_five_others(request, _):
        together.wait(30)
        return 200, {}, echo(request)

    with ChatServer(with_five_others) as server:
        answers = ask(server, *map(str, range(24)), concurrency=6)
        assert answers == {number: str(number) for number in range(24)}
        assert server.most_at_once == 6


@pytest.mark.parametrize(
    "first",
    [
        (500, {}, b"oops"),
        (502, {}, b"<html>bad gateway</html>"),
        (408, {}, b""),
        (429, {"Retry-After": "0.05"}, b"slow down"),
        (429, {"Retry-After": "soon"}, b"slow down"),
        (503, {}, b""),
        (200, {}, b"\xff\xfe not json"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b"[]"),
        None,
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(first):
    with ChatServer(lambda r, times: first if times < 3 else (200, {}, echo(r))) as server:
        assert ask(server, "hello", "world") == {0: "HELLO", 1: "WORLD"}
        assert len(server.requests) == 6


def test_patience_ends_in_a_failure_that_says_why():
    with ChatServer(lambda *_: (500, {}, b"out of memory")) as server:
        answers = ask(server, "a", "b")
        assert answers == {0: Failure("HTTP 500 out of memory (3 attempts)"), 1: answers[0]}
        assert len(server.requests) == 6


def test_a_slow_answer_is_given_up_and_asked_for_again():
    over = threading.Event()

    def slow_once(request, times):
        if times == 1:
            over.wait(60)
        return 200, {}, echo(request)

    with ChatServer(slow_once) as server:
        assert ask(server, "a", patience=Patience(50, 0.5, 0.01, 0.01)) == {0: "A"}
        assert len(server.requests) >= 2
    with ChatServer(lambda *_: over.wait(60) and None) as server:
        (failure,) = ask(server, "a", patience=Patience(2, 0.2, 0.01, 0.01)).values()
        assert failure == Failure("no answer within 0.2 s (2 attempts)")
        over.set()


class _OwnClock(threading.local):
    """A clock a thread, which only that thread's waiting moves."""

    now = 0.0

    def monotonic(self):
        return self.now


def test_one_rate_limit_slows_all_workers_down(monkeypatch):
    """Of two workers one is refused for 7 s and held; all that the other asks comes 7 s later."""
    clock, told, rest_served = _OwnClock(), threading.Event(), threading.Event()
    numbers, served, posted = itertools.count(), [], []

    class Waiting(threading.Event):
        def wait(self, timeout):
            clock.now += timeout
            if timeout and not told.is_set():
                told.set()
                rest_served.wait(60)
            return self.is_set()

    def limit_the_first(request, _):
        if next(numbers) == 0:
            return 429, {"Retry-After": "7"}, b""
        told.wait(60)
        served.append(request)
        if len(served) == 11:
            rest_served.set()
        return 200, {}, echo(request)

    post = EndpointReader._post
    monkeypatch.setattr(EndpointReader, "_post", lambda *a: posted.append(clock.now) or post(*a))
    monkeypatch.setattr(endpoint, "time", clock)
    monkeypatch.setattr(endpoint, "threading", SimpleNamespace(Event=Waiting, Lock=threading.Lock))
    with ChatServer(limit_the_first) as server:
        answers = ask(server, *map(str, range(12)), concurrency=2, patience=Patience(timeout_s=60))
    assert answers == {number: str(number) for number in range(12)}
    # The refused request, and one that may have been on its way beside it.
    assert sorted(posted)[2:] == [7.0] * 11


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_bad_prompt_fails_alone_and_at_once(status):
    def reply(request, _):
        if request["messages"][-1]["content"] == "bad":
            return status, {}, b"too long"
        return 200, {}, echo(request)

    with ChatServer(reply) as server:
        assert ask(server, "bad", "good") == {0: Failure(f"HTTP {status} too long"), 1: "GOOD"}
        assert len(server.requests) == 2


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_for_all_stops_at_once(status):
    with ChatServer(lambda *_: (status, {}, b"no such key or model")) as server:
        with pytest.raises(ValueError, match=f"refuses every request: HTTP {status} no such key"):
            ask(server, *map(str, range(500)), concurrency=2)
        assert len(server.requests) < 10


def test_a_content_that_is_no_text_and_an_endless_answer_are_failures():
    replies = {
        "none": completion(None),
        "endless": b"[" + b" " * 5_000_000 + b"]",
    }
    with ChatServer(lambda r, _: (200, {}, replies[r["messages"][-1]["content"]])) as server:
        answers = ask(server, "none", "endless", patience=Patience(timeout_s=20))
        assert answers[0] == Failure("the answer's content is no text")
        assert "bytes" in answers[1].reason


def test_nobody_listening_is_a_failure_per_prompt():
    with ChatServer(lambda *_: None) as server:
        url = server.url
    reader = EndpointReader(url, "m", patience=QUICK)
    ((_, failure),) = reader.answers([Prompt("", "a")], 5)
    assert "ConnectError" in failure.reason


def test_the_key_is_sent_and_stands_nowhere_else(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with ChatServer(lambda *_: (500, {}, b"oops")) as server:
        reader = EndpointReader(server.url, "m", patience=QUICK, key_variable="MY_KEY")
        ((_, failure),) = reader.answers([Prompt("", "a")], 5)
        assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "secret" not in reader.identity + failure.reason
    monkeypatch.delenv("MY_KEY")
    with ChatServer(lambda r, _: (200, {}, echo(r))) as server:
        ask(server, "a")
        assert "Authorization" not in server.headers[0]


def first_token(server, texts):
    reader = EndpointReader(server.url, "m", patience=QUICK)
    ((_, found),) = reader.first_token_probabilities([Prompt("", "a")], texts)
    return found


def top(**probabilities):
    return {token: math.log(value) for token, value in probabilities.items()}


def test_openings_of_a_text_are_added_up():
    listed = top(NO=0.5, N=0.1, The=0.3, NOT=0.05, no=0.04)
    with ChatServer(lambda *_: (200, {}, completion("NO", listed))) as server:
        assert first_token(server, ["NO-RESPONSE"]) == pytest.approx([0.6])
        assert server.requests[0]["logprobs"] is True
        assert server.requests[0]["max_tokens"] == 1


def test_an_unlisted_text_is_zero_only_where_that_is_known():
    with ChatServer(lambda *_: (200, {}, completion("T", top(The=0.95, A=0.002)))) as server:
        assert first_token(server, ["NO-RESPONSE"]) == [0.0]
    with ChatServer(lambda *_: (200, {}, completion("T", top(The=0.5, A=0.2)))) as server:
        failure = first_token(server, ["NO-RESPONSE"])
        assert isinstance(failure, Failure)
        assert "0.200" in failure.reason
    with ChatServer(lambda *_: (200, {}, completion("T"))) as server:
        assert "no log-probabilities" in first_token(server, ["NO-RESPONSE"]).reason


def test_an_opening_that_two_labels_share_counts_for_neither():
    with ChatServer(
        lambda *_: (200, {}, completion("1", top(**{"1": 0.9, "10": 0.05, "x": 0.001})))
    ) as server:
        assert first_token(server, ["1", "10"]) == pytest.approx([0.0, 0.05])


def test_wrong_addresses_and_limits_are_refused():
    for url in ("127.0.0.1:8000/v1", "ftp://host", "http://"):
        with pytest.raises(ValueError, match="http"):
            EndpointReader(url, "m")
    with pytest.raises(ValueError, match="concurrency"):
        EndpointReader("http://127.0.0.1/v1", "m", concurrency=0)
