"""What one request may ask for. Every limit is an option of the command, and named where it is hit.

Limits().check_documents("'documents'", 2000)  # ValueError
"""

from dataclasses import dataclass

from retrieval.serving.asgi import App, Message, Receive, Scope, Send
from retrieval.serving.errors import refuse


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
                f"the documents have {count} tokens to read and the limit is {self.tokens}: send "
                f"fewer, or set 'max_tokens_per_doc'"
            )


class BodyLimit:
    """Reads a request's whole body, or refuses it with 413 at the first byte beyond the limit."""

    def __init__(self, app: App, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            await self._refuse(send)
            return
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return  # nobody is left to answer
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                await self._refuse(send)
                return
            if not message.get("more_body", False):
                break
        body: Message | None = {"type": "http.request", "body": b"".join(parts), "more_body": False}

        async def replay() -> Message:
            nonlocal body
            if body is not None:
                message, body = body, None
                return message
            return await receive()

        await self._app(scope, replay, send)

    async def _refuse(self, send: Send) -> None:
        # The rest of the body is not read, so the connection can't be used again.
        await refuse(
            send,
            413,
            f"the body has more bytes than the limit of {self._most}",
            headers={"connection": "close"},
        )
