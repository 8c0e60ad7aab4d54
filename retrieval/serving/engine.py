"""What is served: an open index with its encoder and filter, and a reranker with what it has read.

Enters: batches of requests that wait for the same job. Leaves: a result, or an exception, for each.
One thread calls `search`, `embed` and what else the encoder computes, another what the reranker
does: `service.py` says which.

    engine = open_index(Path("my-index"), filter_name="index")
    (found,) = engine.search([Asked("how to open a file", k=10)])
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from index.manifest.manifest import Manifest
from index.records import Hit, Passage
from retrieval.adapter.filters import RelevanceFilter, threshold_filter
from retrieval.legs import DENSE, Search, keep_relevant
from retrieval.retriever import Retriever
from retrieval.serving.encoding import SteadyEncoder
from retrieval.serving.limits import Limits
from retrieval.serving.reranker import Document, Highlights, PassageScores, Reranker

# Where a reranker's cache of the index's passages is looked for, in the index's folder.
CACHE_FOLDER = "rerank-cache"


class Asked(NamedTuple):
    """A search: `cosine` cuts by hand, `filtered` by the service's filter.

    With `group` hits are documents, `k` of them, as `Retriever.search` finds them.
    """

    query: str
    k: int
    filtered: bool = False
    cosine: float | None = None
    mode: str | None = None
    where: str | None = None
    group: str | None = None


class Found(NamedTuple):
    """The hits before the filter, those that it keeps, the passages of all; and milliseconds.

    Passages go by `Hit.passage_id`: what is left of a document may be another of its chunks.
    """

    hits: list[Hit]
    kept: list[Hit]
    passages: dict[str, Passage]
    search_ms: float
    filter_ms: float


class ToRank(NamedTuple):
    """A query's documents to rank, each cut to `max_tokens` of its text."""

    query: str
    documents: Sequence[Document]
    limits: Limits
    max_tokens: int | None = None


class RankedDocuments(NamedTuple):
    """What they get, how many tokens they have, and milliseconds."""

    found: PassageScores
    tokens: int
    rerank_ms: float


class ToEmbed(NamedTuple):
    """Texts, and whether they are documents and no queries."""

    texts: list[str]
    documents: bool


class Embedded(NamedTuple):
    """Unit vectors float32 [n, d], and how many tokens they took."""

    vectors: np.ndarray
    tokens: int


@dataclass(frozen=True, eq=False)
class Engine:
    """One state of the index, open until nobody asks it any more.

    `generation` counts the states that were served, from 1; `cache_state` says in words whether the
    reranker has read the passages before.
    """

    retriever: Retriever
    encoder: SteadyEncoder
    relevance_filter: RelevanceFilter | None
    reranker: Reranker | None
    generation: int
    cache_state: str = "none"

    @property
    def encoder_name(self) -> str:
        """What clients call the encoder: its name, and no path."""
        return Path(self.encoder.record.name).name

    def search(self, asked: Sequence[Asked]) -> list[Found | Exception]:
        """The hits of each; those that differ in the query alone are searched for together."""
        results: dict[int, Found | Exception] = {}
        groups: dict[Asked, list[int]] = {}
        for number, each in enumerate(asked):
            groups.setdefault(each._replace(query=""), []).append(number)
        for settings, numbers in groups.items():
            found: Sequence[Found | Exception]
            try:
                found = self._search([asked[number].query for number in numbers], settings)
            except ValueError as error:  # of a condition, say: it is wrong for all of them
                found = [error] * len(numbers)
            results |= zip(numbers, found, strict=True)
        return [results[number] for number in range(len(asked))]

    def _search(self, queries: list[str], settings: Asked) -> list[Found]:
        started = time.perf_counter()
        search, index = Search(settings.mode or DENSE), self.retriever.index
        cut = self.relevance_filter if settings.filtered else None
        if settings.cosine is not None:
            cut = threshold_filter(settings.cosine)
        if settings.where is not None:
            index.where(settings.where)  # told before anything is encoded
        vectors = self.encoder.encode_queries(queries) if search.needs_vectors(cut) else None
        depth = search.depth(settings.k, cut)
        k, group, retriever = settings.k, settings.group, self.retriever
        legs = retriever.legs(
            search, queries, vectors, k=k, depth=depth, group=group, where=settings.where
        )
        every = [retriever.merged(search, each, k, group) for each in legs]
        searched = time.perf_counter()
        kept = every
        if cut is not None and vectors is not None:
            kept = keep_relevant(cut, index, vectors, legs, every)
        every, kept = ([retriever.grouped(h, k, group) for h in found] for found in (every, kept))
        filtered = time.perf_counter()
        return [
            Found(
                hits,
                keep,
                self._passages_of([*hits, *keep]),
                1000 * (searched - started),
                1000 * (filtered - searched),
            )
            for hits, keep in zip(every, kept, strict=True)
        ]

    def _passages_of(self, hits: Sequence[Hit]) -> dict[str, Passage]:
        once = {hit.passage_id: hit for hit in hits}
        return dict(zip(once, self.retriever.passages(list(once.values())), strict=True))

    def embed(self, asked: Sequence[ToEmbed]) -> list[Embedded]:
        """The vectors of each one's texts; those that take the same prompt are encoded together."""
        record = self.encoder.record
        results: dict[int, Embedded] = {}
        for documents in (False, True):
            prompt = record.passage_prompt if documents else record.query_prompt
            numbers = [n for n, each in enumerate(asked) if each.documents is documents]
            texts = [text for n in numbers for text in asked[n].texts]
            vectors, counts = self.encoder.encode_apart(texts, prompt)
            start = 0
            for n in numbers:
                part = slice(start, start + len(asked[n].texts))
                results[n] = Embedded(vectors[part], int(counts[part].sum()))
                start = part.stop
        return [results[n] for n in range(len(asked))]

    def passages(self, asked: Sequence[Sequence[str]]) -> list[list[Passage]]:
        """The passages with those ids; raises `ValueError` for an unknown one."""
        index = self.retriever.index
        return [index.passages(ids) for ids in asked]

    def rerank(self, asked: Sequence[ToRank]) -> list[RankedDocuments | Exception]:
        """What each query's documents get, all read together."""
        reranker = self.reranker
        assert reranker is not None
        started = time.perf_counter()
        results: dict[int, RankedDocuments | Exception] = {}
        lists: dict[int, list[Document]] = {}
        tokens: dict[int, int] = {}
        for number, each in enumerate(asked):
            documents = [reranker.cut(document, each.max_tokens) for document in each.documents]
            try:
                tokens[number] = _counted(reranker, each, documents)
                lists[number] = documents
            except ValueError as error:
                results[number] = error
        found = reranker.rerank_batch([asked[n].query for n in lists], list(lists.values()))
        took = 1000 * (time.perf_counter() - started)
        for number, scores in zip(lists, found, strict=True):
            results[number] = RankedDocuments(scores, tokens[number], took)
        return [results[number] for number in range(len(asked))]

    def highlights(self, asked: Sequence[ToRank]) -> list[list[Highlights] | Exception]:
        """Where the attention falls in each query's documents, each list in a prompt of its own."""
        reranker = self.reranker
        assert reranker is not None
        results: list[list[Highlights] | Exception] = []
        for each in asked:
            try:
                _counted(reranker, each, each.documents)
                results.append(list(reranker.highlights(each.query, each.documents)))
            except ValueError as error:
                results.append(error)
        return results


def _counted(reranker: Reranker, asked: ToRank, documents: Sequence[Document]) -> int:
    """The tokens of a request's documents; raises `ValueError` for more than it may have read."""
    tokens = reranker.count_tokens(asked.query, documents)
    asked.limits.check_tokens(tokens)
    return tokens


def open_index(
    folder: Path,
    *,
    filter_name: str | None = None,
    device: str | None = None,
    before: Engine | None = None,
) -> Engine:
    """Open the index in `folder`, and read what a search touches; without a reranker.

    What it shares with the engine `before` it is not loaded again. Computes nothing with the shared
    encoder, which another thread may be using. Raises `ValueError` where there is no index, or no
    filter of that name that fits it.
    """
    made_by = Manifest.read(folder).encoder
    encoder = before.encoder if before else None
    if encoder is None or encoder.record.fingerprint != made_by.fingerprint:
        encoder = SteadyEncoder.load(
            made_by.name, device=device, max_length=made_by.max_length or None
        )
    retriever = Retriever.open(folder, encoder=encoder)
    chosen = retriever.open_filter(filter_name) if filter_name is not None else None
    if len(retriever.index):
        any_vector = np.zeros((1, encoder.record.dimension), np.float32)
        (hits,) = retriever.index.search(any_vector, 1)
        retriever.passages(hits)
    return Engine(retriever, encoder, chosen, None, before.generation + 1 if before else 1)


def with_reranker(engine: Engine, reranker: Reranker | None) -> Engine:
    """The engine with a reranker, over the cache beside the index where that fits it."""
    folder = engine.retriever.index.folder / CACHE_FOLDER
    if reranker is None:
        return engine
    if not folder.exists():
        return replace(engine, reranker=reranker, cache_state=f"none: no {CACHE_FOLDER}")
    try:
        cached = reranker.with_cache(folder)
    except ValueError:
        state = f"not used: {CACHE_FOLDER} was made by another model or is damaged"
        return replace(engine, reranker=reranker, cache_state=state)
    return replace(engine, reranker=cached, cache_state="used")
