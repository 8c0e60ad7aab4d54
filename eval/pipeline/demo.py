"""The whole path on the documentation of the Python that runs it.

Enters: `DemoSettings`. Leaves, in one folder: the known-item collection, the index with its
filter, the runs, `result.json` and `report.html`. What is there already and fits is not built
again.

    run_demo(Path("demo"), read_settings(DemoSettings, "demo"))
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from configs.files import write_text
from eval.files.provenance import package_versions
from eval.pipeline.known_items import write_known_items
from eval.pipeline.report_files import write_report
from eval.pipeline.stages import PipelineReport, PipelineSettings, evaluate_pipeline
from retrieval.adapter.fit import KNOWN_ITEM, fit
from retrieval.adapter.hits import label_hits
from retrieval.build import IndexSettings, build_index
from retrieval.calibration import RecallTarget
from retrieval.corpora import load_collection
from retrieval.corpora.python_docs import DEFAULT_PACKAGES
from retrieval.retriever import FILTER_FOLDER, Retriever

NOTES = (
    "Known-item queries: the query is a passage's own summary line, which was taken out of that "
    "passage before it was indexed; passages that are not asked for keep theirs. Functions whose "
    "summary is missing, or occurs twice, are not asked for. Each query has one relevant passage, "
    "and others that would do count as wrong.",
    "The filter's threshold was chosen on other known-item queries, whose labels are pseudo-labels "
    "too.",
    "The reranker in the box was trained on other summary lines of this documentation, among other "
    "texts; none of the queries here was among them. Where it loses against dense search, the "
    "table says so.",
)


@dataclass(frozen=True)
class DemoSettings:
    """What the demo runs. `max_length` is in tokens, `recall_target` of the filter in (0, 1]."""

    corpus: str
    train_queries: int
    test_queries: int
    encoder: str
    max_length: int
    rerank: str
    recall_target: float
    k: int
    measures: tuple[str, ...]
    seed: int


def run_demo(folder: Path, settings: DemoSettings) -> PipelineReport:
    """Build what is missing in `folder`, then search, filter, rerank, measure and report."""
    collection, index = folder / "known-items", folder / "index"
    made_from = folder / "made-from.json"
    sources = _sources(settings)
    if not made_from.is_file() or json.loads(made_from.read_text()) != sources:
        _say(f"reading {settings.corpus}")
        folder.mkdir(parents=True, exist_ok=True)
        write_known_items(
            settings.corpus, collection, train=settings.train_queries, test=settings.test_queries
        )
        # An index of a killed run over other documentation must not be taken for this one's.
        made_from.unlink(missing_ok=True)
        _say("building the index")
        build_index(
            str(collection),
            index,
            IndexSettings(encoder=settings.encoder, max_length=settings.max_length),
            overwrite=True,
        )
        _say("fitting the filter")
        _fit_filter(str(collection), index, settings)
        write_text(made_from, json.dumps(sources, indent=2))
    _say("searching, filtering, reranking")
    report = evaluate_pipeline(
        PipelineSettings(
            collection=str(collection),
            index=str(index),
            k=settings.k,
            filter="index",
            rerank=settings.rerank,
            measures=settings.measures,
            seed=settings.seed,
        )
    )
    write_report(folder, report, NOTES)
    return report


def _fit_filter(collection: str, index: Path, settings: DemoSettings) -> None:
    """Fit on the train split and save beside the index."""
    train = load_collection(collection, "train")
    ids = list(train.qrels)
    texts = [train.queries[query_id] for query_id in ids]
    retriever = Retriever.open(index)
    scores, labels = label_hits(retriever.search(texts, settings.k), ids, train.qrels)
    report = fit(
        retriever.encode_queries(texts),
        scores,
        labels,
        encoder_fingerprint=retriever.encoder_fingerprint,
        query_ids=ids,
        threshold=RecallTarget(settings.recall_target),
        label_source=KNOWN_ITEM,
        seed=settings.seed,
    )
    report.filter.save(index / FILTER_FOLDER)


def _sources(settings: DemoSettings) -> dict[str, str]:
    """What decides the collection and the index: the documentation's versions, the settings."""
    versions = package_versions(DEFAULT_PACKAGES)
    return {"python": sys.version, **versions, "settings": repr(settings)}


def _say(step: str) -> None:
    print(f"{step} …", file=sys.stderr)
