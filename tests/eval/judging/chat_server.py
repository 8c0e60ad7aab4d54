"""A real HTTP server on 127.0.0.1 that speaks, and misspeaks, the chat completions protocol."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(text: str, top: dict[str, float] | None = None) -> dict[str, Any]:
    """A well-formed answer; `top` are log-probabilities of the first token."""
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    if top is not None:
        listed = [{"token": token, "logprob": value} for token, value in top.items()]
        choice["logprobs"] = {"content": [{"token": text[:1], "top_logprobs": listed}]}
    return {"choices": [choice]}


class ChatServer:
    """Answers with what `reply(request, number of times this prompt was asked)` returns:
    (status, headers, body as bytes or JSON), or None to drop the connection."""

    def __init__(self, reply: Callable[[dict[str, Any], int], Any]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self._asked: dict[str, int] = {}
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.requests.append(body | {"path": self.path})
                    server.headers.append(dict(self.headers))
                    asked = json.dumps(body["messages"])
                    server._asked[asked] = server._asked.get(asked, 0) + 1
                    times = server._asked[asked]
                    server.at_once += 1
                    server.most_at_once = max(server.most_at_once, server.at_once)
                try:
                    answer = reply(body, times)
                finally:
                    with lock:
                        server.at_once -= 1
                if answer is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                status, headers, content = answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # a client that lost its patience

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> "ChatServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
