"""Keys and host names: what stands before the routes, and the command's own checks."""

import asyncio
import socket

import pytest

from retrieval.serving import auth
from retrieval.serving.auth import Guard, is_loopback, read_keys

KEYS = ("a-key-of-16-chars", "another-key-of-20-ch")


def status(guard, path="/v1/search", **headers):
    """What a request gets; 200 where it is handed on."""
    sent = []

    async def send(message):
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(guard({"type": "http", "path": path, "headers": pairs}, None, send))
    return sent[0]["status"] if sent else 200


async def handed_on(scope, receive, send):
    pass


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_key_opens_from_any_host(key, scheme):
    guard = Guard(handed_on, KEYS, loopback=False)
    assert status(guard, authorization=f"{scheme} {key}", host="example.org") == 200


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {KEYS[0]}", KEYS[0], f"Bearer {KEYS[0]}x"],
)
def test_no_key_or_a_wrong_one_is_401(value):
    guard = Guard(handed_on, KEYS, loopback=False, public=("/ready",))
    assert status(guard, authorization=value) == 401
    assert status(guard) == 401
    assert status(guard, "/ready") == 200
    assert status(guard, "/ready/x") == 401


def test_every_key_is_compared_in_constant_time(monkeypatch):
    compared = []
    plain = auth.hmac.compare_digest

    def compare(a, b):
        compared.append((len(a), len(b)))
        return plain(a, b)

    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    guard = Guard(handed_on, KEYS, loopback=False)
    assert status(guard, authorization=f"Bearer {KEYS[0]}") == 200
    assert status(guard, authorization="Bearer x") == 401
    assert compared == [(32, 32)] * 4  # no early end, and no length told


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("localhost", 200), ("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("localhost:1", 200),
        ("example.org", 421), ("localhost.example.org", 421), ("127.0.0.1.nip.io:80", 421),
        ("", 421),
    ],
)  # fmt: skip
def test_without_keys_only_own_names_are_answered(host, wanted):
    guard = Guard(handed_on, (), loopback=True)
    assert status(guard, host=host) == wanted


def test_a_page_of_the_web_is_refused_and_our_own_is_not():
    guard = Guard(handed_on, (), loopback=True)
    own = {"host": "localhost:8000"}
    assert status(guard, **own, origin="http://localhost:8000") == 200
    assert status(guard, **own, origin="https://example.org") == 421
    assert status(guard, **own, origin="null") == 421


def test_keys_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    file.write_text("\n".join(KEYS) + "\n\n")
    assert read_keys(file) == KEYS
    monkeypatch.setenv(auth.KEYS_VARIABLE, " , ".join(KEYS))
    assert read_keys(None) == KEYS
    monkeypatch.delenv(auth.KEYS_VARIABLE)
    assert read_keys(None) == ()
    file.write_text("\n")
    with pytest.raises(ValueError, match="holds no key: write one a line"):
        read_keys(file)
    file.write_text("short\n")
    with pytest.raises(ValueError, match="key 1 is shorter than 16 characters"):
        read_keys(file)


def test_loopback_is_told_from_the_rest():
    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    with pytest.raises(ValueError, match="--host 'no such host' is no address"):
        is_loopback("no such host")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "error: --host 0.0.0.0 can be reached by others: give API keys"),
        (["--port", "70000"], "error: --port is 70000, wanted 0 to 65535"),
        (["--max-body", "0"], "error: --max-body is 0, wanted at least 1"),
        (["--rerank-memory", "-1"], "error: --rerank-memory is -1, wanted MiB, or 0 for none"),
        (["--poll", "0"], "error: --poll is 0, wanted seconds above 0"),
        (["--drain", "nan"], "error: --drain is nan, wanted seconds above 0"),
        (["--api-keys", "no-such-file"], "error: no-such-file does not exist"),
        ([], "no-such-index does not exist; build an index"),
    ],
)
def test_the_command_says_what_is_wrong_before_a_model_loads(
    run_module, monkeypatch, arguments, message
):
    monkeypatch.delenv(auth.KEYS_VARIABLE, raising=False)
    done = run_module("retrieval.serve", "no-such-index", "--port", 0, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told_before_a_model_loads(run_module):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_module("retrieval.serve", "no-such-index", "--port", port)
    assert done.returncode == 2
    assert f"--port {port} can't be bound to (Address already in use)" in done.stderr


def test_an_unknown_reranker_is_told_with_those_there_are(run_module, made_index):
    done = run_module(
        "retrieval.serve", made_index, "--port", 0, "--rerank", "x", "--reranker", "unknown"
    )
    assert done.returncode == 2
    assert "no reranker is called 'unknown' (there are: blockrank" in done.stderr
