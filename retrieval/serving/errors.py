"""What a client is told that is not answered: one sentence, as JSON, and no trace of the inside.

Enters: a status and a sentence. Leaves: {"error": {"message", "type", "param"}}, the shape that
OpenAI's clients read; `param` is the field at fault, where there is one.

    error_body("'k' is 0, wanted at least 1")
"""

import json
import re
from collections.abc import Mapping

from configs.formats.shown import shown_line
from retrieval.serving.asgi import Send

# A sentence that begins with a field in quotes is about that field.
_FIELD = re.compile(r"(?:unknown field )?'(\w+)'")
_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    500: "internal_error",
    503: "unavailable_error",
}
# A request's own text may be part of a sentence; nobody needs a megabyte of it back.
_MOST_CHARACTERS = 500


def error_body(message: str, status: int = 400) -> bytes:
    """The body, in ASCII: no character of a client's own text can break it."""
    field = _FIELD.match(message)
    line = shown_line(message)
    error = {
        "message": line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}…",
        "type": _TYPES.get(status, "invalid_request_error"),
        "param": field[1] if field else None,
    }
    return json.dumps({"error": error}).encode()


async def refuse(
    send: Send, status: int, message: str, headers: Mapping[str, str] | None = None
) -> None:
    """Send a whole answer that is an error."""
    body = error_body(message, status)
    lines = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **(headers or {}),
    }
    encoded = [(name.encode(), value.encode()) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
