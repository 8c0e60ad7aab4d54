"""The pipeline on every collection of a folder, in one table.

Enters: a folder of BEIR folders. Leaves: an index, runs and a report for each, and one table.

    run_collections(Path("data"), Path("collections"), CollectionsSettings())
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.intervals import bootstrap_intervals
from eval.pipeline import PipelineReport, PipelineSettings, evaluate_pipeline
from eval.pipeline_files import write_report
from index.manifest import MANIFEST
from retrieval.build import IndexSettings, build_index


@dataclass(frozen=True)
class CollectionsSettings:
    """What is run on each collection, and on how many of its judged queries (None: all)."""

    encoder: str = "minilm"
    max_length: int | None = None
    rerank: tuple[str, ...] = ("minilm",)
    k: int = 50
    max_queries: int | None = None
    measures: tuple[str, ...] = ("nDCG@10", "RR@10", "R@100")


def collections_in(folder: Path) -> list[Path]:
    """The BEIR folders in `folder` that have a corpus, queries and qrels, by name.

    Raises `ValueError` when there is none.
    """
    wanted = ("corpus.jsonl*", "queries.jsonl*", "qrels/test.tsv*")
    found = [
        path
        for path in sorted(folder.iterdir() if folder.is_dir() else [])
        if all(any(path.glob(pattern)) for pattern in wanted)
    ]
    if not found:
        raise ValueError(
            f"{folder} holds no BEIR folder with corpus, queries and qrels/test.tsv; set "
            f"BLOCKSEEK_DATA, or name a folder that does"
        )
    return found


def run_collections(
    folder: Path, out: Path, settings: CollectionsSettings
) -> Iterator[PipelineReport]:
    """Evaluate every collection, one after the other, yielding each report as it is done.

    Bad records (passages without a text) are left out. Indexes in `out` are reused. With several
    rerankers there is one report for each.
    """
    for collection in collections_in(folder):
        target = out / collection.name
        if not (target / "index" / MANIFEST).is_file():
            print(f"{collection.name}: building the index …", file=sys.stderr)
            build_index(
                str(collection),
                target / "index",
                IndexSettings(
                    encoder=settings.encoder, max_length=settings.max_length, skip_bad=True
                ),
                resume=True,
            )
        for model in settings.rerank:
            print(f"{collection.name}: searching, reranking by {model} …", file=sys.stderr)
            report = evaluate_pipeline(
                PipelineSettings(
                    collection=str(collection),
                    index=str(target / "index"),
                    k=settings.k,
                    rerank=model,
                    measures=settings.measures,
                    max_queries=settings.max_queries,
                )
            )
            write_report(target / model.replace("/", "--"), report)
            yield report


def table(reports: Sequence[PipelineReport]) -> tuple[list[str], list[list[str | float]]]:
    """Header and rows: a line a collection and reranker, dense beside reranked."""
    measures = reports[0].settings.measures
    pairs = [f"{name} {stage}" for name in measures for stage in ("dense", "reranked")]
    first = measures[0]
    header = ["collection", "queries", "reranker", *pairs, f"{first} gain", "low", "high"]
    rows: list[list[str | float]] = []
    for report in reports:
        dense, reranked = (stage.evaluation for stage in (report.stages[0], report.stages[-1]))
        gains = reranked.values[first] - dense.values[first]
        low, high = bootstrap_intervals(gains[:, None], seed=report.settings.seed)
        rows.append(
            [
                Path(report.settings.collection).name,
                str(len(dense.query_ids)),
                report.settings.rerank or "none",
                *(stage.means[name] for name in measures for stage in (dense, reranked)),
                f"{gains.mean():+.4f}",
                f"{low[0]:+.4f}",
                f"{high[0]:+.4f}",
            ]
        )
    return header, rows
