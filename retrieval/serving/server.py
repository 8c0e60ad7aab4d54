"""The process: a socket, signals, an end without a lost request.

Enters: a service that is loaded. Leaves: when it has been told to stop and everyone has an answer.

    serve(service, bind("127.0.0.1", 8000))
"""

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from types import FrameType

import uvicorn

from retrieval.serving.app import make_app
from retrieval.serving.service import Service
from retrieval.serving.swapping import watch

# How often a service that drains looks whether it is done.
_LOOK_SECONDS = 0.05
# A batch that nobody waits for any more gets this long to end.
_LAST_SECONDS = 2.0


class Server(uvicorn.Server):
    """Uvicorn, but for the first signal: it drains, and stops when nobody waits for an answer.

    SIGTERM or SIGINT: new requests get 503, running ones their answers; after `drain` seconds, or
    at the second signal, the rest is cut off. SIGHUP: the index is opened again.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, *, drain: float, poll: float
    ) -> None:
        super().__init__(config)
        self._service = service
        self._drain_seconds = drain
        self._poll_seconds = poll
        self._hung_up = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; then say where, and look after signals and the index."""
        await super().startup(sockets)
        if not self.started:
            return
        loop = asyncio.get_running_loop()
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(signal.SIGHUP, self._hung_up.set)
        watching = watch(self._service, self._hung_up, self._poll_seconds)
        self._tasks.append(loop.create_task(watching))
        self.listening()

    def listening(self) -> None:
        """Say where."""
        for each in self.servers:
            host, port = each.sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"serving on http://{shown}:{port}", flush=True)

    def hang_up(self) -> None:
        """Do what SIGHUP does, from any thread."""
        self._tasks[0].get_loop().call_soon_threadsafe(self._hung_up.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, stop at the second."""
        if self._service.draining or not self._tasks:
            self.should_exit = self.force_exit = True
            return
        self._service.draining = True
        print("shutting down: running requests end first", file=sys.stderr, flush=True)
        loop = self._tasks[0].get_loop()
        loop.call_soon_threadsafe(lambda: self._tasks.append(loop.create_task(self._drain())))

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._drain_seconds
        # Twice nobody in a row: a client that was just answered may already have sent the next one.
        quiet = 0
        while quiet < 2 and loop.time() < until:
            await asyncio.sleep(_LOOK_SECONDS)
            quiet = 0 if self._service.running else quiet + 1
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A socket at that address, on which nobody listens yet; port 0 takes a free one.

    Raises `ValueError` where the address can't be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, protocol, _, address = found[0]
        # Only of a socket that names its protocol does asyncio know that answers must not wait, 40
        # ms each, for the client to acknowledge their head.
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ValueError(
            f"--host {host} --port {port} can't be bound to ({error.strerror}): name another port"
        ) from None
    return bound


def serve(
    service: Service,
    bound: socket.socket,
    *,
    keys: Sequence[str] = (),
    loopback: bool = True,
    drain: float = 30.0,
    poll: float = 1.0,
) -> None:
    """Serve on what `bind` gave until SIGTERM or SIGINT. Prints the address to stdout."""
    config = uvicorn.Config(
        make_app(service, keys=keys, loopback=loopback),
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(drain)),
        # Someone has to hold the connections of those that are refused.
        backlog=1024,
    )
    try:
        Server(config, service, drain=drain, poll=poll).run([bound])
    finally:
        service.stop(_LAST_SECONDS)
