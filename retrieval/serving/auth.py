"""Who may ask: keys where the service is reachable from elsewhere, own names where it is not.

Enters: the headers of a request. Leaves: the request, or 401 or 421.

    Guard(app, keys=("secret",), hosts=())
"""

import hashlib
import hmac
import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from configs.formats.lines import text_lines
from retrieval.serving.asgi import App, Receive, Scope, Send
from retrieval.serving.errors import refuse

KEYS_VARIABLE = "BLOCKSEEK_API_KEYS"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_FEWEST_CHARACTERS = 16


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address to bind to, is reachable from this machine alone."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as error:
        raise ValueError(f"--host {host!r} is no address of this machine ({error})") from None
    return all(ipaddress.ip_address(str(each[4][0])).is_loopback for each in found)


def read_keys(file: Path | None) -> tuple[str, ...]:
    """The API keys, one a line of `file`, or separated by commas in the environment.

    Raises `ValueError` for a file without keys, and for one that is soon guessed.
    """
    if file is not None:
        keys = [line.strip() for _, line in text_lines(file) if line.strip()]
        if not keys:
            raise ValueError(f"--api-keys {file} holds no key: write one a line")
    else:
        keys = [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    source = f"--api-keys {file}" if file is not None else KEYS_VARIABLE
    for number, key in enumerate(keys, 1):
        if len(key) < _FEWEST_CHARACTERS or not key.isascii():
            raise ValueError(
                f"{source}: key {number} is shorter than {_FEWEST_CHARACTERS} characters, or not "
                f"ASCII"
            )
    return tuple(keys)


class Guard:
    """Refuses what has no key, where there are keys; and foreign host names, where there are none.

    The second is for a service on loopback: a page of the web could ask it through the browser of
    whoever visits that page, and read the passages where its own name leads to 127.0.0.1.
    """

    def __init__(
        self, app: App, keys: Sequence[str], loopback: bool, public: Sequence[str] = ()
    ) -> None:
        """Paths of `public`, and what lies below one that ends in a slash, need no key."""
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]
        self._only_loopback_names = loopback and not keys
        self._public = tuple(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, or answer."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if self._only_loopback_names and not _is_from_here(headers):
                await refuse(
                    send, 421, "the host or origin of this request is none of this machine's names"
                )
                return
            if self._digests and not self._is_public(scope["path"]):
                scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
                if scheme.lower() != b"bearer" or not self._is_key(key.strip()):
                    await refuse(
                        send,
                        401,
                        "no valid API key: send one as 'Authorization: Bearer KEY'",
                        {"www-authenticate": "Bearer"},
                    )
                    return
        await self._app(scope, receive, send)

    def _is_public(self, path: str) -> bool:
        return any(
            path == each or (each.endswith("/") and each != "/" and path.startswith(each))
            for each in self._public
        )

    def _is_key(self, key: bytes) -> bool:
        """Compares with every key, and in a time that tells neither length nor likeness."""
        digest = _digest(key)
        return sum(hmac.compare_digest(digest, each) for each in self._digests) > 0


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _is_from_here(headers: dict[bytes, bytes]) -> bool:
    """Whether the host that is asked, and the page that asks, if any, have this machine's names."""
    origin = headers.get(b"origin")
    return _names_loopback(headers.get(b"host", b"")) and (
        origin is None or _names_loopback(origin.partition(b"://")[2])
    )


def _names_loopback(host: bytes) -> bool:
    name = host.decode("latin-1")
    return any(name == each or name.startswith(f"{each}:") for each in _LOOPBACK_NAMES)
