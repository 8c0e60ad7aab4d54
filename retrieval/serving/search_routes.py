"""`/v1/search` and `/v1/highlights`: a query through the index, the filter and the reranker.

Enters: their JSON (`schemas.py`). Leaves: hits; tokens with their shares of the attention.
"""

import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from configs.formats.checks import check_query, text_fault
from index.records import Hit, Passage
from retrieval.chunks import place_of
from retrieval.serving.answering import NotServedError, described, served, unless_gone
from retrieval.serving.engine import Asked, Engine, Found, RankedDocuments, ToRank
from retrieval.serving.schemas import (
    HighlightsRequest,
    HighlightsResponse,
    SearchRequest,
    SearchResponse,
    read_body,
)
from retrieval.serving.service import Service


def add_search(app: FastAPI, service: Service) -> None:
    """Add both routes to `app`."""

    @app.post("/v1/search", **described(SearchRequest, SearchResponse))
    async def search(request: Request) -> Response:
        """Search the index, cut what is not relevant, rerank the rest."""
        asked = read_body(SearchRequest, await request.body())
        return await unless_gone(request, _search(service, asked))

    @app.post("/v1/highlights", **described(HighlightsRequest, HighlightsResponse))
    async def highlights(request: Request) -> Response:
        """Where the reranker's attention falls in passages of the index."""
        asked = read_body(HighlightsRequest, await request.body())
        return await unless_gone(request, _highlights(service, asked))


async def _search(service: Service, request: SearchRequest) -> Response:
    engine, limits = service.engine, service.settings.limits
    check_query(request.query, "'query'")
    if request.where is not None and (fault := text_fault(request.where)):
        raise ValueError(f"'where' has {fault}")
    depth = max(request.k, request.candidates or 0)
    limits.check_documents("'k'" if depth == request.k else "'candidates'", depth)
    rerank = engine.reranker is not None if request.rerank is None else request.rerank
    if rerank or request.highlights:
        served(engine.reranker)
    filtered, cosine = _filter_of(engine, request.filter)
    started = time.perf_counter()
    asked = Asked(
        request.query, depth, filtered, cosine, request.mode, request.where, request.group
    )
    found: Found = await service.search.ask(engine.search, asked)
    latency = {"search": found.search_ms, "filter": found.filter_ms}
    ranked: list[tuple[Hit, float, float | None]] = [(hit, hit.score, None) for hit in found.kept]
    if rerank and found.kept:
        documents = [_document(found.passages[hit.passage_id]) for hit in found.kept]
        scored: RankedDocuments = await service.ranking.ask(
            engine.rerank, ToRank(request.query, documents, limits), len(documents)
        )
        latency["rerank"] = scored.rerank_ms
        ranked = _reranked(found.kept, scored)
    of_chunks = engine.retriever.is_of_chunks
    hits = [
        _hit(hit, found.passages[hit.passage_id], rank, score, relevance, of_chunks)
        for rank, (hit, score, relevance) in enumerate(ranked[: request.k], 1)
    ]
    if request.highlights and hits:
        began = time.perf_counter()
        passages = [found.passages[hit.passage_id] for hit, _, _ in ranked[: request.k]]
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
            _hit(hit, found.passages[hit.passage_id], hit.rank, hit.score, None, of_chunks)
            for hit in cut
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
    hit: Hit, passage: Passage, rank: int, score: float, relevance: float | None, of_chunks: bool
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
    if of_chunks:
        found |= place_of(hit)._asdict()
    return found if relevance is None else {**found, "relevance": relevance}


async def _highlights(service: Service, request: HighlightsRequest) -> Response:
    engine = service.engine
    check_query(request.query, "'query'")
    service.settings.limits.check_documents("'ids'", len(request.ids))
    if len(set(request.ids)) < len(request.ids):
        raise ValueError("'ids' has one of them twice")
    served(engine.reranker)
    passages = await service.search.ask(engine.passages, request.ids)
    found = await _tokens(service, engine, request.query, passages)
    told = [{"id": id_, "tokens": each} for id_, each in zip(request.ids, found, strict=True)]
    return JSONResponse({"query": request.query, "passages": told})


async def _tokens(
    service: Service, engine: Engine, query: str, passages: Sequence[Passage]
) -> list[list[dict[str, Any]]]:
    documents = [_document(passage) for passage in passages]
    asked = ToRank(query, documents, service.settings.limits)
    found = await service.ranking.ask(engine.highlights, asked, len(documents))
    return [
        [
            {"field": t.field, "start": t.start, "end": t.end, "mass": t.mass}
            for t in highlights.tokens
        ]
        for highlights in found
    ]


def _document(passage: Passage) -> dict[str, str]:
    return {"title": passage.title, "text": passage.text}
