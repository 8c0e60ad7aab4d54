"""The application: all routes, what a client is told of an error, what `/health` says.

Enters: a `Service`. Leaves: an ASGI application; `/openapi.json` describes it.

    uvicorn.run(make_app(Service.start(ServiceSettings(Path("my-index")))))
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from retrieval.legs import DENSE, MODES
from retrieval.serving.answering import ClientGoneError, NotServedError
from retrieval.serving.asgi import App
from retrieval.serving.auth import Guard
from retrieval.serving.batching import BusyError
from retrieval.serving.errors import error_body
from retrieval.serving.front import CLIENT_GONE, FAILED, Front
from retrieval.serving.limits import BodyLimit
from retrieval.serving.metrics import CONTENT_TYPE
from retrieval.serving.model_routes import add_embeddings, add_rerank
from retrieval.serving.search_routes import add_search
from retrieval.serving.service import Service
from retrieval.serving.static import PUBLIC as PAGE_PATHS
from retrieval.serving.static import add_page

# A probe carries no key, and the page asks for one.
PUBLIC = ("/ready", *PAGE_PATHS)
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "the request is wrong; the sentence names the field"},
    401: {"description": "no valid API key"},
    404: {"description": "what was asked for is not served"},
    408: {"description": "the body did not arrive in time"},
    413: {"description": "the body is larger than the limit"},
    421: {"description": "Host or Origin is none of this machine's own names"},
    429: {"description": "too many requests wait; Retry-After says when to come again"},
    503: {"description": "the service is shutting down"},
}


def make_app(service: Service, *, keys: Sequence[str] = (), loopback: bool = True) -> App:
    """The whole application around `service`.

    With `keys` every route but the probes wants one; without, and on `loopback`, requests must name
    this machine by its own names.
    """
    app = FastAPI(
        title="blockseek",
        description="Search, rerank and embed.",
        version="1",
        docs_url=None,
        redoc_url=None,
        responses=_ERRORS,
    )
    _add_errors(app, service)
    _add_probes(app, service)
    add_search(app, service)
    add_rerank(app, service)
    add_embeddings(app, service)
    add_page(app)
    routes = [getattr(route, "path", "") for route in app.routes]
    limited = BodyLimit(app, service.settings.limits.body, service.settings.queue.seconds)
    return Front(Guard(limited, keys, loopback, PUBLIC), service, routes)


def _add_errors(app: FastAPI, service: Service) -> None:
    def answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        body = error_body(_without_folder(service, message), status)
        return Response(body, status, headers, media_type="application/json")

    @app.exception_handler(ValueError)
    async def _wrong(_: Request, error: ValueError) -> Response:
        return answer(400, str(error))

    @app.exception_handler(NotServedError)
    async def _not_served(_: Request, error: NotServedError) -> Response:
        return answer(404, str(error))

    @app.exception_handler(BusyError)
    async def _busy(_: Request, error: BusyError) -> Response:
        return answer(429, str(error), {"retry-after": str(error.seconds)})

    @app.exception_handler(ClientGoneError)
    async def _gone(_: Request, error: ClientGoneError) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(Exception)
    async def _failed(_: Request, error: Exception) -> Response:
        return answer(500, FAILED)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:80]
        message = {
            404: f"there is no route {path!r}; /openapi.json lists those that there are",
            405: f"{request.method} is no method of {path!r}",
        }.get(error.status_code, str(error.detail))
        return answer(error.status_code, message, error.headers)


def _without_folder(service: Service, message: str) -> str:
    """A sentence of the index may name its folder, which is no client's business."""
    folder = str(service.settings.index)
    return message.replace(f"the index in {folder}", "the index").replace(folder, "the index")


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> dict[str, Any]:
        """What is served, and whether the reranker has read the passages before."""
        return describe(service)

    @app.get("/ready")
    async def ready() -> Response:
        """200 where requests are answered, 503 while the service shuts down."""
        if service.draining:
            return JSONResponse({"ready": False}, 503)
        return JSONResponse({"ready": True})

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def describe(service: Service) -> dict[str, Any]:
    """What `/health` says."""
    engine, settings = service.engine, service.settings
    index = engine.retriever.index
    found: dict[str, Any] = {
        "status": "draining" if service.draining else "ok",
        "index": {
            "passages": len(index),
            "generation": engine.generation,
            "modes": list(MODES if index.has_words else (DENSE,)),
            "columns": index.columns,
            "fault": _without_folder(service, service.swap_fault),
        },
        "encoder": {"name": engine.encoder_name, "dimension": engine.encoder.record.dimension},
        "filter": engine.relevance_filter is not None,
        "reranker": None,
        "limits": {
            "body_bytes": settings.limits.body,
            "documents": settings.limits.documents,
            "tokens": settings.limits.tokens,
            "waiting": settings.queue.waiting,
            "seconds": settings.queue.seconds,
        },
    }
    if engine.reranker is not None:
        found["reranker"] = {
            "name": engine.reranker.name,
            "cache": engine.cache_state,
            "cached_passages": engine.reranker.cached_passages,
        }
    return found
