"""`/v1/rerank`, `/v2/rerank` and `/v1/embeddings`: the models alone, as others' clients ask them.

Enters: the JSON of hosted rerank services (`configs.formats.rerank_json`) and OpenAI's of
embeddings (`schemas.py`). Leaves: theirs.
"""

import base64
import uuid
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from configs.formats.checks import check_query
from configs.formats.rerank_json import read_request, write_response
from retrieval.serving.answering import NotServedError, described, served, unless_gone
from retrieval.serving.engine import ToEmbed, ToRank
from retrieval.serving.schemas import (
    RERANK_REQUEST,
    EmbeddingsRequest,
    EmbeddingsResponse,
    read_body,
    read_json,
)
from retrieval.serving.service import Service


def add_rerank(app: FastAPI, service: Service) -> None:
    """Add the routes of rerank services to `app`."""
    about = described(RERANK_REQUEST, None)

    @app.post("/v1/rerank", **about)
    @app.post("/rerank", include_in_schema=False)
    async def rerank(request: Request) -> Response:
        """Rank documents for a query, as Jina's, vLLM's and TEI's clients ask for it."""
        body = read_json(await request.body())
        return await unless_gone(request, _rerank(service, request.url.path, body))

    @app.post("/v2/rerank", **about)
    async def rerank_v2(request: Request) -> Response:
        """Rank documents for a query, as Cohere's client asks for it."""
        body = read_json(await request.body())
        return await unless_gone(request, _rerank(service, request.url.path, body))


async def _rerank(service: Service, route: str, body: Any) -> Response:
    engine, limits = service.engine, service.settings.limits
    request = read_request(body)
    limits.check_documents("'texts'" if request.of_tei else "'documents'", len(request.documents))
    reranker = served(engine.reranker)
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


def add_embeddings(app: FastAPI, service: Service) -> None:
    """Add the route of embeddings to `app`."""

    @app.post("/v1/embeddings", **described(EmbeddingsRequest, EmbeddingsResponse))
    async def embeddings(request: Request) -> Response:
        """Unit vectors by the index's encoder, in OpenAI's shape."""
        asked = read_body(EmbeddingsRequest, await request.body())
        return await unless_gone(request, _embeddings(service, asked))


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
