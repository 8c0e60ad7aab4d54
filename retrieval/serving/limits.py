"""What one request may ask for. Every limit is an option of the command, and named where it is hit.

Limits().check_documents("'documents'", 2000)  # ValueError
"""

import asyncio
from dataclasses import dataclass

from retrieval.serving.asgi import App, Message, Receive, Scope, Send
from retrieval.serving.errors import refuse

# How many bodies of the largest size may be held at once.
_BODIES = 16


@dataclass(frozen=True)
class Limits:
    """`body` in bytes, `documents` a list (and hits of a search), `tokens` that a rerank reads."""

    body: int = 4 << 20
    documents: int = 1000
    tokens: int = 1 << 16

    def check_documents(self, name: str, count: int) -> None:
        """Raise `ValueError` for more of them than a request may have."""
        if count > self.documents:
            raise ValueError(f"{name}: {count} documents, and the limit is {self.documents}")

    def check_tokens(self, count: int) -> None:
        """Raise `ValueError` for more tokens than a request may have read."""
        if count > self.tokens:
            raise ValueError(
                f"the documents have {count} tokens to read and the limit is {self.tokens}: ask "
                f"for fewer, or with 'max_tokens_per_doc' for less of each"
            )


class BodyLimit:
    """Reads a request's whole body, or refuses it: 413, 408, 429.

    413 at the first byte beyond the limit; 408 when it is too slow; 429 while the bodies of all
    requests together have more than `_BODIES` times the limit of one.
    """

    def __init__(self, app: App, most: int, seconds: float) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                fault = await self._read(dict(scope["headers"]), receive, body)
        except TimeoutError:
            fault = 408, f"the body did not arrive within {self._seconds:g} s"
        try:
            if fault is not None:
                # The rest of the body is not read, so the connection can't be used again.
                await refuse(send, *fault, {"connection": "close", "retry-after": "1"})
                return
            await self._app(scope, _replaying(bytes(body), receive), send)
        finally:
            self._held -= len(body)

    async def _read(
        self, headers: dict[bytes, bytes], receive: Receive, body: bytearray
    ) -> tuple[int, str] | None:
        """Fill `body`; what is wrong with it, as a status and a sentence."""
        too_large = 413, f"the body has more bytes than the limit of {self._most}"
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            return too_large
        while True:
            message = await receive()
            part = message.get("body", b"")
            body += part
            self._held += len(part)
            if len(body) > self._most:
                return too_large
            if self._held > _BODIES * self._most:
                return 429, "too many bytes of other requests wait: come again later"
            if not message.get("more_body", False):
                return None  # or the client has gone, which the route is told next


def _replaying(body: bytes, receive: Receive) -> Receive:
    """`receive` with the whole body first."""
    first = True

    async def replay() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
