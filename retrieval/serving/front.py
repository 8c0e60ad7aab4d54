"""The outermost layer: counts, times, drains, and lets nothing of the inside out.

Enters: every request. Leaves: its answer; 503 while the service drains, 500 without a trace.

    Front(app, service)
"""

import sys
import time
import traceback
from collections.abc import Collection

from retrieval.serving.asgi import App, Message, Receive, Scope, Send
from retrieval.serving.errors import refuse
from retrieval.serving.service import Service

# What is asked about a service that drains is answered by it.
_PROBES = ("/health", "/ready", "/metrics")
CLIENT_GONE = 499
# The outer ones are the web framework's.
_FRAMES = 8
FAILED = "the service failed; its log says where"


class Front:
    """Wraps an application."""

    def __init__(self, app: App, service: Service, routes: Collection[str]) -> None:
        """`routes` are the paths that metrics name; all others are `other` there."""
        self._app = app
        self._service = service
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, or answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service, path = self._service, scope["path"]
        status = CLIENT_GONE  # until an answer begins
        started = time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        service.running += 1
        try:
            if service.draining and path not in _PROBES:
                headers = {"retry-after": "1", "connection": "close"}
                await refuse(counted, 503, "the service is shutting down", headers)
            else:
                await self._app(scope, receive, counted)
        except Exception as error:
            _log(error)
            if status == CLIENT_GONE:
                await refuse(counted, 500, FAILED)
        finally:
            service.running -= 1
            route = path if path in self._routes else "other"
            service.metrics.answered(route, status, time.perf_counter() - started)


def _log(error: Exception) -> None:
    """Where it failed, to stderr; not the message, which may hold a query or a passage."""
    places = "".join(traceback.format_tb(error.__traceback__)[-_FRAMES:])
    print(f"failed: {type(error).__name__}\n{places}", file=sys.stderr, flush=True)
