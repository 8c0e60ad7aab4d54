"""`python -m eval measure QRELS RUN`: rank measures of one run, with bootstrap intervals."""

import argparse
from typing import TYPE_CHECKING, Any

from configs.command import note
from configs.formats.shown import first_few
from eval.commands.output import Subparsers, add_output_options, print_json, print_table

if TYPE_CHECKING:
    from eval.measures.ranking import Evaluation
    from eval.statistics.intervals import Intervals


def add_measure_parser(subparsers: Subparsers) -> None:
    """Add the `measure` subcommand."""
    parser = subparsers.add_parser(
        "measure",
        help="rank measures of one run against qrels",
        description="Evaluate a TREC run. Every judged query counts, a missing one as 0.",
    )
    parser.add_argument("qrels", help="qrels file (TREC or BEIR), BEIR folder, or ir_datasets id")
    parser.add_argument("run_file", metavar="run", help="TREC run, plain or .gz")
    parser.add_argument("--split", default="test", help="split of a BEIR folder (%(default)s)")
    parser.add_argument(
        "--measures",
        nargs="+",
        metavar="NAME",
        help="names of ir-measures (nDCG@10 RR@10 R@100 AP Judged@10)",
    )
    parser.add_argument("--per-query", action="store_true", help="one line per query instead")
    parser.add_argument(
        "--resamples",
        type=int,
        default=10_000,
        help="bootstrap resamples of the 95%% intervals; 0 leaves them out (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (%(default)s)")
    add_output_options(parser)
    parser.set_defaults(run=run_measure)


def run_measure(arguments: argparse.Namespace) -> None:
    """Evaluate one run and print the table or the JSON object."""
    import numpy as np

    from eval.files.trec import read_run
    from eval.measures.ranking import DEFAULT_MEASURES, evaluate
    from eval.statistics.intervals import bootstrap_intervals
    from retrieval.corpora import load_qrels

    qrels = load_qrels(arguments.qrels, arguments.split)
    run = read_run(arguments.run_file)
    evaluation = evaluate(qrels, run, arguments.measures or DEFAULT_MEASURES)
    intervals = None
    if arguments.resamples and not arguments.per_query:
        intervals = bootstrap_intervals(
            np.column_stack(list(evaluation.values.values())),
            resamples=arguments.resamples,
            seed=arguments.seed,
        )
    _warn(evaluation)
    if arguments.format == "json":
        print_json(_as_json(arguments, evaluation, intervals))
    elif arguments.per_query:
        columns = [evaluation.values[name].tolist() for name in evaluation.measures]
        rows = list(zip(evaluation.query_ids, *columns, strict=True))
        rows.append(("all", *evaluation.means.values()))
        print_table(arguments, ["query", *evaluation.measures], rows)
    elif intervals is None:
        print_table(arguments, ["measure", "mean"], list(evaluation.means.items()))
    else:
        # The interval is that of a mean; beside a sum it would mislead.
        rows = [
            (name, mean, *(("", "") if name in evaluation.summed else (low, high)))
            for (name, mean), low, high in zip(
                evaluation.means.items(), *map(np.ndarray.tolist, intervals), strict=True
            )
        ]
        print_table(arguments, ["measure", "mean", "low", "high"], rows)


def _warn(evaluation: "Evaluation") -> None:
    """Say on stderr what did not match; the table alone would hide it."""
    shares = {
        "judged queries are missing from the run and count 0": evaluation.missing,
        "queries of the run have no judgment and are ignored": evaluation.ignored,
        "judged queries have no relevant passage": evaluation.without_relevant,
    }
    for what, query_ids in shares.items():
        if query_ids:
            note(f"{len(query_ids)} {what}: {first_few(query_ids)}")


def _as_json(
    arguments: argparse.Namespace, evaluation: "Evaluation", intervals: "Intervals | None"
) -> dict[str, Any]:
    measures: dict[str, dict[str, float]] = {}
    for column, (name, mean) in enumerate(evaluation.means.items()):
        measures[name] = {"mean": mean}
        if intervals is not None and name not in evaluation.summed:
            measures[name]["low"] = float(intervals.low[column])
            measures[name]["high"] = float(intervals.high[column])
    report: dict[str, Any] = {
        "qrels": str(arguments.qrels),
        "run": str(arguments.run_file),
        "queries": len(evaluation.query_ids),
        "missing": list(evaluation.missing),
        "ignored": list(evaluation.ignored),
        "without_relevant": list(evaluation.without_relevant),
        "measures": measures,
    }
    if intervals is not None:
        report["bootstrap"] = {
            "resamples": arguments.resamples,
            "confidence": 0.95,
            "seed": arguments.seed,
        }
    if arguments.per_query:
        report["per_query"] = evaluation.per_query()
    return report
