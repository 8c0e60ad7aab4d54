"""The command line of relevance filters: `python -m retrieval.filter fit|report`.

Enters: an index and labels. Leaves: a filter beside the index, and what it is worth.

    python -m retrieval.filter fit my-index --collection my-collection --recall 0.95
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from configs.command import note, run_command
from configs.formats.shown import first_few

if TYPE_CHECKING:
    from retrieval.adapter.hits import LabelledHits
    from retrieval.calibration import ThresholdRule
    from retrieval.retriever import Retriever

_DEPTH = 50


def make_parser() -> argparse.ArgumentParser:
    """The parser; nothing heavy is imported before a command runs."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.filter",
        description="Fit a filter that knows where the relevant results end, and measure it.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fit = commands.add_parser("fit", help="compare candidates, keep the best, choose its threshold")
    _add_labels(fit)
    fit.add_argument("--out", type=Path, help="the filter's folder (default: INDEX/filter)")
    rule = fit.add_mutually_exclusive_group()
    rule.add_argument(
        "--recall", type=float, help="keep this share of the relevant hits (default: 0.95)"
    )
    rule.add_argument(
        "--risk",
        type=float,
        metavar="ALPHA",
        help="conformal: lose on average at most this share of a query's relevant hits",
    )
    rule.add_argument("--threshold", type=float, help="a probability, by hand")
    fit.add_argument(
        "--candidate",
        action="append",
        metavar="NAME",
        help="compare only these (repeat): max-norm, isotonic, adapter:MAP:INPUTS with MAP "
        "linear|sqrt|quadratic|power and INPUTS embedding|profile|both (default: all)",
    )
    fit.add_argument("--folds", type=int, default=5, help="of the cross-validation (default: 5)")
    fit.add_argument("--seed", type=int, default=0, help="of splits and training (default: 0)")
    fit.set_defaults(run=_fit)

    report = commands.add_parser("report", help="measure a fitted filter against the plain cuts")
    _add_labels(report)
    report.add_argument(
        "--filter",
        default="index",
        help="its folder, `index` for the one beside the index (default), or a threshold",
    )
    report.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the report")
    report.add_argument(
        "--all-queries",
        action="store_true",
        help="measure also on the queries that the filter was fitted on",
    )
    report.set_defaults(run=_report)
    return parser


def _add_labels(command: argparse.ArgumentParser) -> None:
    command.add_argument("index", type=Path, help="the index's folder")
    command.add_argument(
        "--collection", help="queries and qrels: a BEIR folder or an ir_datasets id"
    )
    command.add_argument("--split", default="test", help="of a BEIR folder (default: test)")
    command.add_argument("--queries", type=Path, help="queries from a file")
    command.add_argument("--qrels", type=Path, help="qrels from a file: TREC's or BEIR's columns")
    command.add_argument(
        "--known-items",
        type=Path,
        metavar="FILE",
        help='pseudo-labels: JSON Lines of {"query": text, "id": its passage}',
    )
    command.add_argument(
        "--labels",
        metavar="SOURCE",
        help="where the grades come from: qrels (default), pseudo:judge, pseudo:known-item",
    )
    command.add_argument(
        "--min-grade", type=int, default=1, help="the lowest relevant grade (default: 1)"
    )
    command.add_argument(
        "--unjudged",
        choices=("irrelevant", "skip"),
        default="irrelevant",
        help="hits without a grade (default: irrelevant; skip suits judged pools)",
    )
    command.add_argument("-k", type=int, default=_DEPTH, help=f"hits a query (default: {_DEPTH})")
    command.add_argument("--device", help="cpu, cuda, ...")
    command.add_argument("--json", action="store_true", help="print JSON")


def _fit(arguments: argparse.Namespace) -> None:
    from retrieval.adapter.fit import fit
    from retrieval.retriever import FILTER_FOLDER

    rule = _rule(arguments)
    retriever, labelled, source = _search(arguments)
    hits = labelled.hits
    report = fit(
        hits.embeddings,
        hits.split(hits.scores),
        hits.split(labelled.labels),
        encoder_fingerprint=retriever.encoder_fingerprint,
        query_ids=labelled.query_ids,
        threshold=rule,
        candidates=arguments.candidate,
        folds=arguments.folds,
        label_source=source,
        seed=arguments.seed,
    )
    folder = arguments.out or arguments.index / FILTER_FOLDER
    report.filter.save(folder)
    print(f"filter written to {folder}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        print(report.table())


def _rule(arguments: argparse.Namespace) -> "ThresholdRule":
    from retrieval.calibration import ByHand, RecallTarget, RiskControl

    if arguments.risk is not None:
        return RiskControl(arguments.risk)
    if arguments.threshold is not None:
        return ByHand(arguments.threshold)
    return RecallTarget(0.95 if arguments.recall is None else arguments.recall)


def _report(arguments: argparse.Namespace) -> None:
    import numpy as np

    from retrieval.adapter.filters import load_filter, threshold_filter
    from retrieval.filter_report import filter_methods, measure_filters
    from retrieval.retriever import FILTER_FOLDER

    retriever, labelled, source = _search(arguments)
    beside = arguments.index / FILTER_FOLDER
    named = str(beside) if arguments.filter == "index" else arguments.filter
    value = _number(named)
    chosen = (
        load_filter(named, retriever.encoder_fingerprint)
        if value is None
        else threshold_filter(value)
    )
    notes = [f"filter: {named}, {chosen.record['threshold_rule']['meaning']}"]
    if chosen.record.get("pseudo_labels"):
        notes.append(f"the filter was fitted on PSEUDO-LABELS ({chosen.record['labels']})")
    if chosen.needed_hits > arguments.k:
        raise ValueError(f"this filter reads {chosen.needed_hits} hits a query; raise -k to that")
    fitted_on = {
        query_id
        for part in ("development_query_ids", "calibration_query_ids")
        for query_id in chosen.record.get(part, ())
    }
    fresh = np.array([query_id not in fitted_on for query_id in labelled.query_ids])
    if not fresh.all():
        known = len(fresh) - int(fresh.sum())
        if fresh.any() and not arguments.all_queries:
            labelled = labelled.select(np.flatnonzero(fresh))
            notes.append(f"left out: {known} queries that the filter was fitted on")
        else:
            notes.append(
                f"OPTIMISTIC: the filter was fitted on {known} of these {len(fresh)} queries"
            )
    methods = filter_methods(chosen, labelled.hits)
    report = measure_filters(labelled, methods, labels=source, notes=notes)
    if arguments.plot:
        from retrieval.filter_report_plot import plot_filters

        title = f"{arguments.collection or arguments.qrels or arguments.known_items}, {named}"
        plot_filters(labelled, methods, arguments.plot, title=title, labels=source)
    print(json.dumps(report.to_json(), indent=2) if arguments.json else report.table())


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _search(arguments: argparse.Namespace) -> "tuple[Retriever, LabelledHits, str]":
    """The open index, the labelled hits of every query that found some, and the labels' source."""
    from retrieval.adapter.hits import label_hits, pack_labelled
    from retrieval.filter_labels import read_labels
    from retrieval.own_hits import own_ids, without_own
    from retrieval.retriever import Retriever

    queries, qrels, source, without_text = read_labels(
        collection=arguments.collection,
        split=arguments.split,
        queries=arguments.queries,
        qrels=arguments.qrels,
        known_items=arguments.known_items,
        source=arguments.labels,
    )
    if without_text:
        listed = first_few(without_text)
        note(f"{len(without_text)} judged queries have no text and are left out: {listed}")
    retriever = Retriever.open(arguments.index, device=arguments.device)
    embeddings = retriever.encode_queries(list(queries.values()))
    own = own_ids(qrels, retriever.documents)
    found = retriever.index.search(embeddings, arguments.k + bool(own))
    # A chunk is as relevant as its document.
    named = [[hit._replace(id=retriever.document_of(hit.id)) for hit in hits] for hits in found]
    results = [
        without_own(hits, query_id, own, arguments.k)
        for query_id, hits in zip(queries, named, strict=True)
    ]
    scores, labels = label_hits(
        results,
        list(queries),
        qrels,
        min_grade=arguments.min_grade,
        unjudged=arguments.unjudged,
    )
    return retriever, pack_labelled(embeddings, scores, labels, list(queries)), source


if __name__ == "__main__":
    sys.exit(run_command(make_parser()))
