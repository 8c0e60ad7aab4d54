"""What the relevance filter is worth: planted shifts, and every real collection with labels.

Enters: the folder of test collections ($BLOCKSEEK_DATA or --data; without one, planted shifts
alone). Leaves: tables on stdout, JSON and plots under --out.

    python benchmarks/filter.py --out results

Every query of a collection is cut by a filter that was chosen, fitted and thresholded without it:
queries are dealt into outer folds, `fit` sees the others and does its own cross-validation and
calibration inside them. The plain cuts get their thresholds from the same calibration queries, at
the recall that the filter reached there.
"""

import argparse
import gzip
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

# A script here is called as a package of ours, and this folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from configs.models import cache_folder
from index.records import Hit, Passage
from retrieval.adapter.candidates import fit_candidate
from retrieval.adapter.compare import deal_folds
from retrieval.adapter.filters import kept
from retrieval.adapter.fit import QRELS, fit, split_queries
from retrieval.adapter.hits import LabelledHits, label_hits, pack_labelled
from retrieval.adapter.measures import curve_measures
from retrieval.adapter.network import AdapterSettings
from retrieval.adapter.scorers import sigmoid
from retrieval.calibration import RecallTarget, RiskControl, ThresholdRule, choose_threshold
from retrieval.filter_report import FilterReport, Method, filter_methods, measure_filters

DEPTH = 50
OURS = "chosen filter"
ALWAYS = "adapter:linear:both"


class Task(NamedTuple):
    """A collection, the lowest relevant grade, and which passages are a query's candidates."""

    collection: str
    min_grade: int
    candidates: str  # "judged": its judged passages; "dense": the top 50, unjudged irrelevant
    about: str


TASKS = (
    Task(
        "climate_fever_sentences",
        1,
        "judged",
        "five sentences a claim, 474 claims without evidence",
    ),
    Task("crowdflower_a", 3, "judged", "product search, relevant = perfect match"),
    Task("crowdflower_a", 2, "judged", "product search, relevant = good or perfect match"),
    Task("wikiqa_train_pairs", 1, "judged", "sentences of one page, most questions without answer"),
    Task("wikiqa_dev", 1, "judged", "sentences of one page, most questions without answer"),
    Task("trec_dl19", 2, "judged", "43 queries with long judged lists"),
    Task("nq_qed", 1, "dense", "one relevant paragraph a question"),
    Task("cranfield", 1, "dense", "abstracts, complete judgements"),
    Task("nfcorpus_stopped", 1, "dense", "many relevant, stop words removed"),
    Task("npl_vaswani", 1, "dense", "abstracts, 93 queries"),
    Task("cacm", 1, "dense", "titles and abstracts, 52 queries"),
)
QUICK = ("wikiqa_dev",)


class Vectors(NamedTuple):
    """A collection, encoded."""

    ids: np.ndarray
    passages: np.ndarray  # float32 [N, d]
    queries: np.ndarray  # float32 [Q, d]
    query_ids: tuple[str, ...]
    qrels: dict[str, dict[str, int]]


def read_collection(
    folder: Path,
) -> tuple[list[Passage], dict[str, str], dict[str, dict[str, int]]]:
    """Passages, queries and qrels of a BEIR folder, or of a file of query, positives, negatives."""
    pairs = folder / "train.jsonl.gz"
    if not pairs.is_file():
        from retrieval.corpora import load_collection, open_corpus

        _, queries, qrels = load_collection(str(folder))
        # Two empty abstracts of one collection are its own, not ours to stop at.
        from retrieval.corpora.records import Skipped

        return list(open_corpus(str(folder), Skipped())), queries, qrels
    ids: dict[str, str] = {}
    queries, qrels = {}, {}
    with gzip.open(pairs, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            grades = qrels[f"q{number}"] = {}
            queries[f"q{number}"] = row["query"]
            for grade, sentences in ((1, row["positives"]), (0, row["negatives"])):
                for sentence in sentences:
                    grades.setdefault(ids.setdefault(sentence, f"p{len(ids)}"), grade)
    return [Passage(id_, "", text) for text, id_ in ids.items()], queries, qrels


def encoded(folder: Path) -> Vectors:
    """The vectors of a collection under MiniLM, computed once and kept in the cache folder."""
    from retrieval.encoder import Encoder

    encoder = Encoder.load("minilm")
    path = cache_folder() / "benchmarks" / f"{folder.name}-{encoder.record.fingerprint[:12]}.npz"
    passages, queries, qrels = read_collection(folder)
    queries = {query_id: text for query_id, text in queries.items() if query_id in qrels}
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        by_length = sorted(range(len(passages)), key=lambda i: len(passages[i].full_text))
        vectors = np.empty((len(passages), encoder.record.dimension), np.float32)
        for start in range(0, len(by_length), 512):
            rows = by_length[start : start + 512]
            vectors[rows], _ = encoder.encode_passages([passages[i] for i in rows])
            print(f"{folder.name}: {start + len(rows)}/{len(passages)}", file=sys.stderr)
        temporary = path.with_name(f"{path.stem}.tmp.npz")
        np.savez(
            temporary, passages=vectors, queries=encoder.encode_queries(list(queries.values()))
        )
        temporary.replace(path)
    kept = np.load(path)
    ids = np.array([p.id for p in passages])
    return Vectors(ids, kept["passages"], kept["queries"], tuple(queries), qrels)


def labelled_hits(vectors: Vectors, task: Task) -> LabelledHits:
    """The task's candidates of every query, best first, with their labels."""
    position = {id_: row for row, id_ in enumerate(vectors.ids)}
    results, query_ids, rows = [], [], []
    for row, query_id in enumerate(vectors.query_ids):
        if task.candidates == "judged":
            pool = np.array([position[i] for i in vectors.qrels[query_id] if i in position], int)
        else:
            pool = np.arange(len(vectors.ids))
        scores = vectors.passages[pool] @ vectors.queries[row]
        best = np.argsort(-scores, kind="stable")[: DEPTH if task.candidates == "dense" else None]
        if len(best):
            hits = [
                Hit(str(vectors.ids[pool[j]]), float(scores[j]), 1 + n) for n, j in enumerate(best)
            ]
            results.append(hits)
            query_ids.append(query_id)
            rows.append(row)
    scores, labels = label_hits(results, query_ids, vectors.qrels, min_grade=task.min_grade)
    return pack_labelled(vectors.queries[rows], scores, labels, query_ids)


def cross_fit(
    labelled: LabelledHits, rule: ThresholdRule, folds: int, seed: int
) -> tuple[list[Method], np.ndarray, list[str]]:
    """Every method on queries its filter has not seen; each query's fold; what each fold chose."""
    fold_of_query = deal_folds(labelled, folds, seed)
    hits_in_order, by_fold, chosen = [], [], []
    for fold in range(folds):
        training = labelled.select(np.flatnonzero(fold_of_query != fold))
        hits = training.hits
        report = fit(
            hits.embeddings,
            hits.split(hits.scores),
            hits.split(training.labels),
            encoder_fingerprint="minilm",
            query_ids=training.query_ids,
            threshold=rule,
            seed=seed,
        )
        chosen.append(report.chosen)
        tested = labelled.select(np.flatnonzero(fold_of_query == fold))
        methods = filter_methods(report.filter, tested.hits, OURS)
        by_fold.append([*methods, _always(training, tested, rule, seed)])
        hits_in_order.append(np.flatnonzero(fold_of_query[labelled.hits.query_of_hit] == fold))
    back = np.argsort(np.concatenate(hits_in_order))

    def whole(parts: list[np.ndarray | None]) -> np.ndarray | None:
        known = [part for part in parts if part is not None]
        return np.concatenate(known)[back] if known else None

    methods = []
    for same in zip(*by_fold, strict=True):
        values, stayed = whole([m.values for m in same]), whole([m.kept for m in same])
        assert values is not None
        assert stayed is not None
        methods.append(Method(same[0].name, values, stayed, whole([m.probabilities for m in same])))
    return methods, fold_of_query, chosen


def _always(training: LabelledHits, tested: LabelledHits, rule: ThresholdRule, seed: int) -> Method:
    """One adapter named beforehand, used whether or not it looks better than the global score."""
    development, calibration = split_queries(training, 5, 0.3, rule, seed)
    scorer = fit_candidate(ALWAYS, development, AdapterSettings(), seed)
    threshold = choose_threshold(rule, scorer.values(calibration.hits), calibration)
    values = scorer.values(tested.hits)
    return Method(f"always {ALWAYS}", values, kept(values, threshold), sigmoid(values))


def measure_task(
    labelled: LabelledHits, task: Task, rule: ThresholdRule, folds: int, seed: int
) -> tuple[FilterReport, list[Method]]:
    """The report of one collection."""
    methods, parts, chosen = cross_fit(labelled, rule, folds, seed)
    notes = [
        f"{task.about}; candidates: {task.candidates} passages; relevant: grade >= "
        f"{task.min_grade}",
        f"threshold: {rule}; chosen in {folds} outer folds: {', '.join(chosen)}",
    ]
    return measure_filters(
        labelled, methods, labels=QRELS, parts=parts, notes=notes, seed=seed
    ), methods


def planted(queries: int, kind: str, seed: int) -> tuple[LabelledHits, np.ndarray]:
    """Synthetic queries whose cosines are shifted query by query, and the values an oracle knows.

    `linear`: the shift is linear in the embedding; `topic`: one shift for each of 8 topics;
    `unseen`: independent of the embedding, so that only the scores can show it.
    """
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(queries, 64))
    if kind == "topic":
        topic = generator.integers(0, 8, queries)
        embeddings = 8 * generator.normal(size=(8, 64))[topic] + embeddings
        shift = generator.normal(size=8)[topic]
    elif kind == "linear":
        shift = embeddings @ generator.normal(size=64) / 8
    else:
        shift = generator.normal(size=queries)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    relevant = generator.random((queries, 20)) < 0.3
    clean = 0.4 + 0.15 * relevant + 0.05 * generator.normal(size=relevant.shape)
    order = np.argsort(-clean, axis=1)
    clean = np.take_along_axis(clean, order, axis=1)
    scores = (clean + 0.08 * shift[:, None]).astype(np.float32)
    labels = np.take_along_axis(relevant, order, axis=1).astype(np.int8)
    return pack_labelled(embeddings.astype(np.float32), list(scores), list(labels)), clean.ravel()


def measure_planted(queries: int, seed: int = 0) -> list[str]:
    """Share of the gap between the global score and the oracle that each input closes, held out."""
    lines = [f"planted shift, {queries} training and 1000 fresh queries: share of the gap closed"]
    for kind in ("linear", "topic", "unseen"):
        everything, clean = planted(queries + 1000, kind, seed)
        training = everything.select(np.arange(queries))
        fresh = everything.select(np.arange(queries, queries + 1000))
        one = np.ones((1, 1000))
        known = clean[everything.hits.query_of_hit >= queries]
        low, high = (curve_measures(v, fresh, one)["PR-AUC"][0] for v in (fresh.hits.scores, known))
        for inputs in ("embedding", "profile", "both"):
            scorer = fit_candidate(f"adapter:linear:{inputs}", training, AdapterSettings(), seed)
            ours = curve_measures(scorer.values(fresh.hits), fresh, one)["PR-AUC"][0]
            lines.append(
                f"  {kind:<7} {inputs:<10} global {low:.3f}  adapter {ours:.3f}  oracle {high:.3f}"
                f"  closed {(ours - low) / (high - low):.0%}"
            )
    return lines


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("BLOCKSEEK_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None)
    parser.add_argument("--out", type=Path, help="a folder for JSON and plots")
    parser.add_argument("--only", nargs="*", help="names of collections")
    parser.add_argument("--risk", type=float, help="conformal risk instead of recall .95")
    parser.add_argument("--folds", type=int, default=5, help="outer folds (default: 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one small collection")
    arguments = parser.parse_args()
    if not arguments.only:
        print("\n".join(measure_planted(300 if arguments.quick else 1000)), flush=True)
    if arguments.data is None:
        print("no collections measured: name their folder with --data or $BLOCKSEEK_DATA")
        return
    rule = RiskControl(arguments.risk) if arguments.risk else RecallTarget(0.95)
    names = arguments.only or (QUICK if arguments.quick else [task.collection for task in TASKS])
    for task in TASKS:
        folder = arguments.data / task.collection
        if task.collection not in names or not folder.is_dir():
            continue
        began = time.process_time()
        labelled = labelled_hits(encoded(folder), task)
        report, methods = measure_task(labelled, task, rule, arguments.folds, arguments.seed)
        title = f"{task.collection} (grade >= {task.min_grade})"
        print(
            f"\n## {title}, {time.process_time() - began:.0f} s CPU\n{report.table()}", flush=True
        )
        if arguments.out:
            from retrieval.filter_report_plot import plot_filters

            arguments.out.mkdir(parents=True, exist_ok=True)
            stem = f"{task.collection}-{task.min_grade}"
            text = json.dumps({"task": task._asdict(), **report.to_json()}, indent=1)
            (arguments.out / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
            plot_filters(
                labelled, methods, arguments.out / f"{stem}.svg", title=title, labels=QRELS
            )


if __name__ == "__main__":
    main()
