"""The page: its files, read once, under headers that let nothing else in.

Enters: the application. Leaves: the same with `/` and, under `/page/`, what the page loads. None of
it tells anything of the index, so it needs no key: the page asks for one itself.

    add_page(app)
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parent / "page"
# Paths that need no key, as `retrieval.serving.auth.Guard` takes them.
PUBLIC = ("/", "/page/")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    # With trusted types the browser refuses every way of turning a string into markup, so that a
    # passage can't become any, whatever this page's modules do.
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    # The address holds the query.
    "referrer-policy": "no-referrer",
    # Asked for again each time, and sent again only where it has changed.
    "cache-control": "no-cache",
}


class PageFile(NamedTuple):
    """A file of the page as it is sent."""

    content: bytes
    media_type: str
    etag: str


def read_page() -> dict[str, PageFile]:
    """The files of the page by their names."""
    files = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            files[path.name] = PageFile(content, _TYPES[path.suffix], etag)
    return files


def add_page(app: FastAPI) -> None:
    """Serve the page at `/`. Names are looked up among the files read before, not on the disk."""
    files = read_page()

    def answer(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        file = files[name]
        headers = {**_HEADERS, "etag": file.etag}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return answer(request, "index.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def page_file(request: Request, name: str) -> Response:
        return answer(request, name)
