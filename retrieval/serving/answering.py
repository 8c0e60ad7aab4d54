"""What all routes share: who is answered, what is not served, how a route describes itself.

Enters: a request and the work that answers it. Leaves: the answer, unless its client has gone.

    return await unless_gone(request, work())
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel

from retrieval.serving.reranker import Reranker

Result = TypeVar("Result")


class NotServedError(Exception):
    """The request asks for what this service does not have."""


class ClientGoneError(Exception):
    """Nobody is left to answer."""


def served(reranker: Reranker | None) -> Reranker:
    """The reranker; raises `NotServedError` where there is none."""
    if reranker is None:
        raise NotServedError("no reranker is served: start the service with --rerank MODEL")
    return reranker


def described(request: type[BaseModel] | dict[str, Any], response: type[BaseModel] | None) -> Any:
    """What a route says of itself in OpenAPI: its body is read by our own strict reader."""
    schema = request if isinstance(request, dict) else request.model_json_schema()
    content = {"application/json": {"schema": schema}}
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
        "response_model": None,
        "responses": {200: {"model": response} if response else {"description": "the ranking"}},
    }


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` gives; it is cancelled when the client closes its connection."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        for task in (working, leaving):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
