"""Searches and rerankers on every collection of a folder, in one table.

Enters: a folder of BEIR folders. Leaves: for each an index, runs and `result.json`, and one table:
dense search, BM25, their fusion, and every reranker over the best of dense search and of the
fusion, and fused with that.

    run_collections(Path("data"), Path("collections"), CollectionsSettings())
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from eval.files.provenance import package_versions
from eval.files.result_folder import write_result
from eval.files.trec import Run
from eval.pipeline.collection_runs import BM25, FUSION, beside, collection_runs, over
from eval.pipeline.judged_queries import (
    JudgedQueries,
    absent_passages,
    judged_queries,
    missing_notes,
)
from eval.statistics.comparison import Comparison, compare
from eval.statistics.intervals import bootstrap_intervals
from index.manifest.manifest import MANIFEST
from rerank import BlockRanker
from retrieval.build import IndexSettings, build_index
from retrieval.corpora import load_collection
from retrieval.legs import DENSE
from retrieval.own_hits import own_ids
from retrieval.retriever import Retriever


@dataclass(frozen=True)
class CollectionsSettings:
    """What is run on each collection, and on how many of its judged queries (None: all).

    With `judged` every system orders the passages judged for a query, in place of its `k` best of
    the whole corpus. `seen` names collections whose texts a reranker was trained on: they are
    marked and left out of the means.
    """

    encoder: str = "minilm"
    max_length: int | None = None
    rerank: tuple[str, ...] = ("mini",)
    k: int = 100
    judged: bool = False
    max_queries: int | None = None
    measures: tuple[str, ...] = ("nDCG@10", "RR@10", "R@100")
    seen: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class CollectionReport:
    """One collection's systems, compared with dense search; rerankers over the fusion with it.

    `notes` say what its judgments name and nobody has.
    """

    name: str
    seen: bool
    comparison: Comparison
    over_fusion: Comparison
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Everything but the runs, for machines."""
        return {
            "collection": self.name,
            "seen_in_training": self.seen,
            "notes": list(self.notes),
            "against_dense": self.comparison.as_json(),
            "against_fusion": self.over_fusion.as_json(),
        }


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
) -> Iterator[CollectionReport]:
    """Evaluate every collection, one after the other, yielding each report as it is done.

    Bad records (passages without a text) are left out. Indexes in `out` are reused.
    """
    found = collections_in(folder)
    rankers = {name: BlockRanker.from_pretrained(name) for name in settings.rerank}
    for collection in found:
        target = out / collection.name
        asked = _asked(collection, settings)
        queries, qrels = asked.queries, asked.qrels
        if not queries:
            _say(f"{collection.name}: left out, no query has passages of several grades")
            continue
        if not (target / "index" / MANIFEST).is_file():
            _say(f"{collection.name}: building the index …")
            build_index(
                str(collection),
                target / "index",
                IndexSettings(
                    encoder=settings.encoder, max_length=settings.max_length, skip_bad=True
                ),
                resume=True,
            )
        _say(f"{collection.name}: searching and reranking …")
        retriever = Retriever.open(target / "index")
        pools = qrels if settings.judged else None
        known = retriever.index
        notes = missing_notes(asked, absent_passages(qrels, known))
        for note in notes:
            _say(f"{collection.name}: {note}")
        own = own_ids(qrels, known)
        runs = collection_runs(retriever, queries, rankers, settings.k, own, pools)
        report = CollectionReport(
            collection.name,
            collection.name in settings.seen,
            compare(qrels, runs, settings.measures, baseline=DENSE, all_pairs=False),
            compare(qrels, runs, settings.measures, baseline=FUSION, all_pairs=False),
            tuple(notes),
        )
        _write(target / "judged" if settings.judged else target, report, runs, settings)
        yield report


def table(
    reports: Sequence[CollectionReport], settings: CollectionsSettings
) -> tuple[list[str], list[list[str | float]]]:
    """Header and rows: a line a collection and reranker, by the first measure.

    Gains come with paired 95 % intervals, and a star where a permutation test with Holm's
    correction finds them significant at .05. The last line of a reranker is the mean over
    collections that it was not trained on; its interval is over collections.
    """
    measure = settings.measures[0]
    header = ["collection", "queries", "reranker", DENSE, BM25, FUSION]
    header += ["over dense", "over fusion", "beside fusion"]
    header += ["over dense, gain", "over fusion, gain on it", "beside fusion, gain on it"]
    rows: list[list[str | float]] = []
    for reranker in settings.rerank:
        means, gains = [], []
        for report in reports:
            scores = report.comparison.scores
            ranked = (over(reranker, DENSE), over(reranker, FUSION), beside(reranker, FUSION))
            row = [scores[system][measure].mean for system in (DENSE, BM25, FUSION, *ranked)]
            name = f"{report.name} (seen)" if report.seen else report.name
            against = (report.comparison, report.over_fusion, report.over_fusion)
            found = [_gain(c, system, measure) for c, system in zip(against, ranked, strict=True)]
            count = str(len(report.comparison.query_ids))
            rows.append([name, count, reranker, *row, *found])
            if not report.seen:
                means.append(row)
                gains.append((row[3] - row[0], row[4] - row[2], row[5] - row[2]))
        if len(means) > 1:
            low, high = bootstrap_intervals(np.array(gains), seed=settings.seed)
            mean = np.array(gains).mean(axis=0)
            texts = [
                f"{m:+.4f} [{a:+.4f}, {b:+.4f}]" for m, a, b in zip(mean, low, high, strict=True)
            ]
            rows.append(
                [
                    "mean, not seen",
                    str(len(means)),
                    reranker,
                    *np.array(means).mean(0).tolist(),
                    *texts,
                ]
            )
    return header, rows


def _gain(comparison: Comparison, system: str, measure: str) -> str:
    versus = comparison.scores[system][measure].versus
    assert versus is not None
    star = " *" if comparison.significant(system, measure) else ""
    return f"{versus.difference:+.4f} [{versus.low:+.4f}, {versus.high:+.4f}]{star}"


def _asked(folder: Path, settings: CollectionsSettings) -> JudgedQueries:
    """Queries with a relevant passage, evenly spread where there are more than wanted.

    For judged pools only those whose passages were not all judged alike; there may be none.
    """
    collection = load_collection(str(folder))
    wanted = {}
    for query_id, judged in collection.qrels.items():
        grades = set(judged.values())
        if max(grades) > 0 and (len(grades) > 1 or not settings.judged):
            wanted[query_id] = judged
    if not wanted and not settings.judged:
        raise ValueError(f"{folder}: no query has a relevant passage")
    return judged_queries(collection.queries, wanted, settings.max_queries)


def _write(
    target: Path, report: CollectionReport, runs: Mapping[str, Run], settings: CollectionsSettings
) -> None:
    files = {name.replace(" ", "-").replace("/", "--"): run for name, run in runs.items()}
    result = report.as_json() | {"settings": asdict(settings), "versions": package_versions()}
    write_result(target, files, result, page=None)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
