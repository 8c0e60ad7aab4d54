"""Evaluate the whole path on a collection: search, cosine adapter, reranker, measures.

Enters: a collection with queries and qrels, an index, the stages to run. Leaves: per stage a run,
its measures with intervals, its latency, what it kept.

    evaluate_pipeline(PipelineSettings(collection="folder", index="my-index", rerank="minilm"))
"""

import platform
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from configs.formats.checks import id_fault
from eval.files.provenance import package_versions
from eval.files.trec import Run
from eval.measures.ranking import Evaluation, evaluate, parse_measure
from eval.pipeline.judged_queries import (
    AbsentPassages,
    JudgedQueries,
    absent_passages,
    judged_queries,
    missing_notes,
)
from eval.statistics.intervals import Intervals, bootstrap_intervals
from index.records import Hit
from rerank import BlockRanker, PassagesTruncatedWarning
from retrieval.corpora import load_collection
from retrieval.grouping import BEST, check_group
from retrieval.legs import DENSE, Search
from retrieval.own_hits import own_ids
from retrieval.pipeline import StageHits, run_pipeline
from retrieval.retriever import Retriever


@dataclass(frozen=True)
class PipelineSettings:
    """What is run and measured.

    `search` is dense, lexical or hybrid, `dense_weight` of the last (see `Search`). `filter` is a
    cosine, a filter's folder, or `index` for the one beside the index. `max_queries`
    takes that many of the judged queries, evenly spread; None takes all. Hits under the query's
    own id are dropped, as BEIR does, unless they were judged for it or `keep_own` is set.

    Of an index of chunks documents are measured: by their best chunk, or as `group` says (see
    `Retriever.search`); `k` counts them, and filter and reranker read the chunks.
    """

    collection: str
    index: str
    split: str = "test"
    k: int = 100
    search: str = DENSE
    dense_weight: float | None = None
    filter: str | None = None
    rerank: str | None = None
    measures: tuple[str, ...] = ("nDCG@10", "RR@10", "R@100")
    device: str | None = None
    max_queries: int | None = None
    keep_own: bool = False
    group: str | None = None
    resamples: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class StageReport:
    """One stage's result over all judged queries.

    `kept_share` is its hits over the first stage's, `null_share` the share of queries without any;
    `tokens` are the reranker's tokens of its passages, None where there is no reranker.
    """

    name: str
    run: Run
    evaluation: Evaluation
    intervals: Intervals
    latency_ms: np.ndarray
    kept_share: float
    null_share: float
    tokens: int | None


@dataclass(frozen=True)
class PipelineReport:
    """All stages, and what made them.

    `truncated` counts the index's passages that are longer than the encoder reads,
    `at_reranker_limit` the passages found that fill, or are cut at, what the reranker reads.
    Judged queries without a text are in every stage's `evaluation`, with 0. `own_hits` counts the
    queries whose own passage was found and dropped.
    """

    settings: PipelineSettings
    stages: tuple[StageReport, ...]
    passages: int
    truncated: int
    at_reranker_limit: int
    asked: JudgedQueries
    absent: AbsentPassages
    own_hits: int
    provenance: dict[str, str]

    @property
    def notes(self) -> list[str]:
        """What is missing, in sentences."""
        return missing_notes(self.asked, self.absent, self.own_hits)

    def rows(self) -> tuple[list[str], list[list[str | float]]]:
        """Header and rows of the one table."""
        header = ["stage", *self.settings.measures, "ms/query", "kept %", "null %"]
        rows: list[list[str | float]] = [
            [
                stage.name if stage is self.stages[0] else f"+{stage.name}",
                *stage.evaluation.means.values(),
                f"{stage.latency_ms.mean():.1f}",
                f"{100 * stage.kept_share:.1f}",
                f"{100 * stage.null_share:.1f}",
            ]
            for stage in self.stages
        ]
        return header, rows

    def as_json(self) -> dict[str, Any]:
        """Everything but the runs, for machines."""
        return {
            "settings": asdict(self.settings),
            "queries": len(self.stages[0].evaluation.query_ids),
            "passages": self.passages,
            "truncated_passages": self.truncated,
            "passages_at_reranker_limit": self.at_reranker_limit,
            "queries_without_text": list(self.asked.without_text),
            "judged_passages": asdict(self.absent),
            "own_hits_dropped": self.own_hits,
            "stages": [_stage_json(stage) for stage in self.stages],
            "provenance": self.provenance,
        }


def evaluate_pipeline(settings: PipelineSettings) -> PipelineReport:
    """Run and measure; only judged queries are asked, and all of them count.

    Raises `ValueError` when the collection, the index, the filter or the reranker can't be read,
    a measure or an id is bad, or collection and index share no passage: before a model runs.
    """
    for measure in settings.measures:
        parse_measure(measure)
    search = Search(settings.search, settings.dense_weight)
    if settings.group is not None:
        check_group(settings.group)
    collection = load_collection(settings.collection, settings.split)
    asked = judged_queries(collection.queries, collection.qrels, settings.max_queries)
    if not asked.queries:
        raise ValueError(f"{settings.collection}: no query of split {settings.split} is judged")
    queries, qrels = asked.queries, asked.qrels
    retriever = Retriever.open(settings.index, device=settings.device)
    group = settings.group or (BEST if retriever.is_of_chunks else None)
    known = retriever.documents
    if fault := next(filter(None, map(id_fault, retriever.index.ids)), ""):
        raise ValueError(
            f"the index {settings.index} is an old one, and no run can hold it: {fault}"
        )
    absent = absent_passages(qrels, known)
    if absent.absent == absent.judged:
        raise ValueError(
            f"{settings.collection} and the index {settings.index} share no passage: none that is "
            "judged is in the index; is it of the same corpus?"
        )
    relevance_filter = retriever.open_filter(settings.filter) if settings.filter else None
    ranker = None
    if settings.rerank is not None:
        ranker = BlockRanker.from_pretrained(settings.rerank, settings.device)
    with warnings.catch_warnings():
        # Told once, as a number of the report, not once a query.
        warnings.simplefilter("ignore", PassagesTruncatedWarning)
        stages = run_pipeline(
            retriever,
            queries,
            k=settings.k,
            search=search,
            relevance_filter=relevance_filter,
            reranker=ranker.rerank if ranker else None,
            own=own_ids(qrels, known, settings.keep_own),
            group=group,
        )
    counts: dict[str, int] | None = None
    at_limit = 0
    if ranker is not None:
        read = (hit.passage_id for hits in stages[0].hits.values() for hit in hits)
        found = list(dict.fromkeys(read))
        tokens = ranker.token_counts(retriever.index.passages(found)) if found else []
        counts = dict(zip(found, tokens, strict=True))
        at_limit = sum(n >= ranker.settings.most_passage_tokens for n in counts.values())
    manifest = retriever.index.manifest
    return PipelineReport(
        settings=settings,
        stages=tuple(_stage_report(stage, stages[0], qrels, settings, counts) for stage in stages),
        passages=manifest.passages,
        truncated=manifest.truncated,
        at_reranker_limit=at_limit,
        asked=asked,
        absent=absent,
        own_hits=stages[0].own_hits,
        provenance=_provenance(settings, retriever),
    )


def _stage_report(
    stage: StageHits,
    first: StageHits,
    qrels: Mapping[str, Mapping[str, int]],
    settings: PipelineSettings,
    counts: Mapping[str, int] | None,
) -> StageReport:
    run = {query_id: _scores(hits) for query_id, hits in stage.hits.items()}
    evaluation = evaluate(qrels, run, settings.measures)
    values = np.column_stack(list(evaluation.values.values()))
    hits = sum(len(found) for found in stage.hits.values())
    ids = [hit.passage_id for found in stage.hits.values() for hit in found]
    return StageReport(
        name=stage.name,
        run=run,
        evaluation=evaluation,
        intervals=bootstrap_intervals(values, resamples=settings.resamples, seed=settings.seed),
        latency_ms=np.array(stage.latency_ms),
        kept_share=hits / max(1, sum(len(found) for found in first.hits.values())),
        null_share=sum(not found for found in stage.hits.values()) / len(stage.hits),
        tokens=None if counts is None else sum(counts[id_] for id_ in ids),
    )


def _scores(hits: list[Hit]) -> dict[str, float]:
    return {hit.id: hit.score for hit in hits}


def _stage_json(stage: StageReport) -> dict[str, Any]:
    low, high = stage.intervals
    return {
        "name": stage.name,
        "measures": {
            name: {"mean": mean, "low": float(low[column]), "high": float(high[column])}
            for column, (name, mean) in enumerate(stage.evaluation.means.items())
        },
        "latency_ms": {
            "mean": float(stage.latency_ms.mean()),
            "p50": float(np.percentile(stage.latency_ms, 50)),
            "p95": float(np.percentile(stage.latency_ms, 95)),
        },
        "kept_share": stage.kept_share,
        "null_share": stage.null_share,
        "tokens": stage.tokens,
    }


def _provenance(settings: PipelineSettings, retriever: Retriever) -> dict[str, str]:
    import torch

    encoder = retriever.encoder.record
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "encoder": f"{encoder.name} ({encoder.fingerprint})",
        "reranker": settings.rerank or "none",
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, GPU: {gpu}",
        **package_versions(),
    }
