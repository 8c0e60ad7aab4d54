"""The routes: JSON in, JSON out.

Enters: a `Service`. Leaves: an ASGI application; `/openapi.json` describes it.

    uvicorn.run(make_app(Service.start(ServiceSettings(Path("my-index")))))
"""

import asyncio
import base64
import time
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from configs.formats.checks import check_query, text_fault
from configs.formats.rerank_json import read_request, write_response
from index.records import Hit, Passage
from retrieval.serving.asgi import App
from retrieval.serving.auth import Guard
from retrieval.serving.batching import BusyError
from retrieval.serving.engine import Asked, Engine, Found, RankedDocuments, ToEmbed, ToRank
from retrieval.serving.errors import error_body
from retrieval.serving.front import FAILED, Front
from retrieval.serving.limits import BodyLimit
from retrieval.serving.metrics import CONTENT_TYPE
from retrieval.serving.schemas import (
    RERANK_REQUEST,
    EmbeddingsRequest,
    EmbeddingsResponse,
    HighlightsRequest,
    HighlightsResponse,
    SearchRequest,
    SearchResponse,
    read_body,
    read_json,
)
from retrieval.serving.service import Service
from retrieval.serving.static import PUBLIC as PAGE_PATHS
from retrieval.serving.static import add_page

Result = TypeVar("Result")
# A probe carries no key, and the page asks for one.
PUBLIC = ("/ready", *PAGE_PATHS)
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "the request is wrong; the sentence names the field"},
    401: {"description": "no valid API key"},
    404: {"description": "what was asked for is not served"},
    413: {"description": "the body is larger than the limit"},
    421: {"description": "the Host header is none of this machine's own names"},
    429: {"description": "too many requests wait; Retry-After says when to come again"},
    503: {"description": "the service is shutting down"},
}


class NotServedError(Exception):
    """The request asks for what this service does not have."""


class _ClientGoneError(Exception):
    """Nobody is left to answer."""


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
    _add_search(app, service)
    _add_rerank(app, service)
    _add_embeddings(app, service)
    add_page(app)
    routes = [getattr(route, "path", "") for route in app.routes]
    limited = BodyLimit(app, service.settings.limits.body)
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

    @app.exception_handler(_ClientGoneError)
    async def _gone(_: Request, error: _ClientGoneError) -> Response:
        return Response(status_code=499)

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


def _add_search(app: FastAPI, service: Service) -> None:
    @app.post("/v1/search", **_described(SearchRequest, SearchResponse))
    async def search(request: Request) -> Response:
        """Search the index, cut what is not relevant, rerank the rest."""
        asked = read_body(SearchRequest, await request.body())
        return await _unless_gone(request, _search(service, asked))

    @app.post("/v1/highlights", **_described(HighlightsRequest, HighlightsResponse))
    async def highlights(request: Request) -> Response:
        """Where the reranker's attention falls in passages of the index."""
        asked = read_body(HighlightsRequest, await request.body())
        return await _unless_gone(request, _highlights(service, asked))


async def _search(service: Service, request: SearchRequest) -> Response:
    engine, limits = service.engine, service.settings.limits
    check_query(request.query, "'query'")
    if request.where is not None and (fault := text_fault(request.where)):
        raise ValueError(f"'where' has {fault}")
    depth = max(request.k, request.candidates or 0)
    limits.check_documents("'k'" if depth == request.k else "'candidates'", depth)
    rerank = engine.reranker is not None if request.rerank is None else request.rerank
    if rerank or request.highlights:
        _check_reranker(engine)
    filtered, cosine = _filter_of(engine, request.filter)
    started = time.perf_counter()
    asked = Asked(request.query, depth, filtered, cosine, request.mode, request.where)
    found: Found = await service.search.ask(engine.search, asked)
    latency = {"search": found.search_ms, "filter": found.filter_ms}
    ranked: list[tuple[Hit, float, float | None]] = [(hit, hit.score, None) for hit in found.kept]
    if rerank and found.kept:
        documents = [_document(found.passages[hit.id]) for hit in found.kept]
        scored: RankedDocuments = await service.ranking.ask(
            engine.rerank, ToRank(request.query, documents), len(documents)
        )
        latency["rerank"] = scored.rerank_ms
        ranked = _reranked(found.kept, scored)
    hits = [
        _hit(hit, found.passages[hit.id], rank, score, relevance)
        for rank, (hit, score, relevance) in enumerate(ranked[: request.k], 1)
    ]
    if request.highlights and hits:
        began = time.perf_counter()
        passages = [found.passages[hit["id"]] for hit in hits]
        for hit, tokens in zip(
            hits, await _tokens(service, engine, request.query, passages), strict=True
        ):
            hit["highlights"] = tokens
        latency["highlights"] = 1000 * (time.perf_counter() - began)
    latency["wait"] = max(0.0, 1000 * (time.perf_counter() - started) - sum(latency.values()))
    answer = {"query": request.query, "hits": hits}
    if request.cut:
        kept = {hit.id for hit in found.kept}
        cut = [hit for hit in found.hits if hit.id not in kept]
        answer["cut"] = [
            _hit(hit, found.passages[hit.id], hit.rank, hit.score, None) for hit in cut
        ]
    rounded = {stage: round(value, 3) for stage, value in latency.items()}
    return JSONResponse({**answer, "generation": engine.generation, "latency_ms": rounded})


def _filter_of(engine: Engine, asked: bool | float | None) -> tuple[bool, float | None]:
    """Whether the service's filter cuts, and the cosine that does instead."""
    if asked is None:
        return engine.relevance_filter is not None, None
    if asked is True and engine.relevance_filter is None:
        raise NotServedError(
            "no filter is served: give a cosine as 'filter', or start with --filter"
        )
    return (asked, None) if isinstance(asked, bool) else (False, float(asked))


def _reranked(
    kept: Sequence[Hit], scored: RankedDocuments
) -> list[tuple[Hit, float, float | None]]:
    """Hits, scores and relevance by (score descending, id), as rankings are everywhere."""
    rows = zip(kept, scored.found.scores, scored.found.relevance, strict=True)
    return sorted(rows, key=lambda row: (-row[1], row[0].id))


def _hit(
    hit: Hit, passage: Passage, rank: int, score: float, relevance: float | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": hit.id,
        "rank": rank,
        "score": score,
        "title": passage.title,
        "text": passage.text,
        "search_rank": hit.rank,
        "search_score": hit.score,
    }
    return found if relevance is None else {**found, "relevance": relevance}


async def _highlights(service: Service, request: HighlightsRequest) -> Response:
    engine = service.engine
    check_query(request.query, "'query'")
    service.settings.limits.check_documents("'ids'", len(request.ids))
    if len(set(request.ids)) < len(request.ids):
        raise ValueError("'ids' has one of them twice")
    _check_reranker(engine)
    passages = await service.search.ask(engine.passages, request.ids)
    found = await _tokens(service, engine, request.query, passages)
    told = [{"id": id_, "tokens": each} for id_, each in zip(request.ids, found, strict=True)]
    return JSONResponse({"query": request.query, "passages": told})


async def _tokens(
    service: Service, engine: Engine, query: str, passages: Sequence[Passage]
) -> list[list[dict[str, Any]]]:
    documents = [_document(passage) for passage in passages]
    found = await service.ranking.ask(engine.highlights, ToRank(query, documents), len(documents))
    return [
        [
            {"field": t.field, "start": t.start, "end": t.end, "mass": t.mass}
            for t in highlights.tokens
        ]
        for highlights in found
    ]


def _document(passage: Passage) -> dict[str, str]:
    return {"title": passage.title, "text": passage.text}


def _check_reranker(engine: Engine) -> None:
    if engine.reranker is None:
        raise NotServedError("no reranker is served: start the service with --rerank MODEL")


def _add_rerank(app: FastAPI, service: Service) -> None:
    described = _described(RERANK_REQUEST, None)

    @app.post("/v1/rerank", **described)
    @app.post("/rerank", include_in_schema=False)
    async def rerank(request: Request) -> Response:
        """Rank documents for a query, as Jina's, vLLM's and TEI's clients ask for it."""
        body = read_json(await request.body())
        return await _unless_gone(request, _rerank(service, request.url.path, body))

    @app.post("/v2/rerank", **described)
    async def rerank_v2(request: Request) -> Response:
        """Rank documents for a query, as Cohere's client asks for it."""
        body = read_json(await request.body())
        return await _unless_gone(request, _rerank(service, request.url.path, body))


async def _rerank(service: Service, route: str, body: Any) -> Response:
    engine, limits = service.engine, service.settings.limits
    request = read_request(body)
    limits.check_documents("'texts'" if request.of_tei else "'documents'", len(request.documents))
    _check_reranker(engine)
    reranker = engine.reranker
    assert reranker is not None
    if request.model not in (None, reranker.name):
        raise NotServedError(f"'model' is {request.model!r:.80}, and {reranker.name!r} is served")
    asked = ToRank(request.query, request.documents, limits, request.max_tokens_per_doc)
    scored = await service.ranking.ask(engine.rerank, asked, len(request.documents))
    service.metrics.read_tokens(route, scored.tokens)
    answer = write_response(
        request,
        scores=scored.found.scores,
        relevance=scored.found.relevance,
        tokens=scored.tokens,
        model=reranker.name,
    )
    if route == "/v2/rerank" and isinstance(answer, dict):
        meta = {"tokens": {"input_tokens": scored.tokens}}
        answer = {"id": str(uuid.uuid4()), **answer, "meta": meta}
    return JSONResponse(answer)


def _add_embeddings(app: FastAPI, service: Service) -> None:
    @app.post("/v1/embeddings", **_described(EmbeddingsRequest, EmbeddingsResponse))
    async def embeddings(request: Request) -> Response:
        """Unit vectors by the index's encoder, in OpenAI's shape."""
        asked = read_body(EmbeddingsRequest, await request.body())
        return await _unless_gone(request, _embeddings(service, asked))


async def _embeddings(service: Service, request: EmbeddingsRequest) -> Response:
    engine = service.engine
    texts = [request.input] if isinstance(request.input, str) else request.input
    service.settings.limits.check_documents("'input'", len(texts))
    for number, text in enumerate(texts):
        check_query(text, "'input'" if isinstance(request.input, str) else f"'input'[{number}]")
    if not texts:
        raise ValueError("'input' is empty")
    name, dimension = engine.encoder_name, engine.encoder.record.dimension
    if request.model not in (None, name):
        raise NotServedError(f"'model' is {request.model!r:.80}, and {name!r} is served")
    if request.dimensions not in (None, dimension):
        raise ValueError(f"'dimensions' is {request.dimensions}, the encoder has {dimension}")
    asked = ToEmbed(texts, request.input_type == "document")
    vectors, tokens = await service.search.ask(engine.embed, asked, len(texts))
    service.metrics.read_tokens("/v1/embeddings", tokens)
    data = [
        {
            "object": "embedding",
            "index": number,
            "embedding": vector.tolist()
            if request.encoding_format == "float"
            else base64.b64encode(vector.astype("<f4").tobytes()).decode(),
        }
        for number, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "data": data, "model": name, "usage": usage})


def describe(service: Service) -> dict[str, Any]:
    """What `/health` says."""
    engine, settings = service.engine, service.settings
    found: dict[str, Any] = {
        "status": "draining" if service.draining else "ok",
        "index": {
            "passages": len(engine.retriever.index),
            "generation": engine.generation,
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


def _described(request: type[BaseModel] | dict[str, Any], response: type[BaseModel] | None) -> Any:
    """What a route says of itself in OpenAPI: its body is read by our own strict reader."""
    schema = request if isinstance(request, dict) else request.model_json_schema()
    content = {"application/json": {"schema": schema}}
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
        "response_model": None,
        "responses": {200: {"model": response} if response else {"description": "the ranking"}},
    }


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` gives; it is cancelled when the client closes its connection."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _ClientGoneError
        return working.result()
    finally:
        for task in (working, leaving):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
