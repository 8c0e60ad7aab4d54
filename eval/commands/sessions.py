"""`python -m eval sessions FOLDER RUN...`: NUM of whole sessions."""

import argparse
from pathlib import Path
from typing import Any

from configs.command import note
from configs.formats.shown import first_few
from eval.commands.output import Subparsers, add_output_options, print_json, print_table
from eval.reporting.tables import Cell


def add_sessions_parser(subparsers: Subparsers) -> None:
    """Add the `sessions` subcommand."""
    parser = subparsers.add_parser(
        "sessions",
        help="score whole sessions of queries (NUM)",
        description="Score each session as one need, normalised by an ideal session.",
    )
    parser.add_argument("qrels", help="qrels file, BEIR folder, or ir_datasets id")
    parser.add_argument("runs", nargs="+", help="TREC runs, or folders of them")
    parser.add_argument("--sessions", help="TSV with session, turn, query-id (FOLDER/sessions.tsv)")
    parser.add_argument("--split", default="test", help="of a BEIR folder (%(default)s)")
    parser.add_argument("--depth", type=int, default=10, help="passages read (%(default)s)")
    parser.add_argument(
        "--reformulation", type=float, default=1, help="cost of a new query (%(default)s)"
    )
    parser.add_argument(
        "--patience", type=float, default=100, help="passages until nothing counts (%(default)s)"
    )
    parser.add_argument("--resamples", type=int, default=10_000, help="bootstrap (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (%(default)s)")
    add_output_options(parser)
    parser.set_defaults(run=run_sessions)


def run_sessions(arguments: argparse.Namespace) -> None:
    """Score every run and print."""
    import numpy as np

    from eval.files.named_runs import named_runs
    from eval.measures.ranking import check_overlap
    from eval.measures.sessions import SessionSettings, num, read_sessions
    from eval.statistics.intervals import bootstrap_intervals
    from retrieval.corpora import load_qrels

    qrels = load_qrels(arguments.qrels, arguments.split)
    sessions = read_sessions(arguments.sessions or Path(arguments.qrels) / "sessions.tsv")
    settings = SessionSettings(arguments.depth, arguments.reformulation, arguments.patience)
    rows: list[list[Cell]] = []
    report: dict[str, Any] = {}
    for name, run in named_runs(arguments.runs).items():
        if run is None:
            rows.append([name, "", None, "", ""])
            report[name] = {"status": "not run"}
            continue
        check_overlap(qrels, run)
        result = num(sessions, qrels, run, settings)
        if result.mean is None:
            raise ValueError(
                "no session has a judged query with a relevant passage: "
                "are the sessions and the qrels of the same collection?"
            )
        if result.missing:
            note(
                f"{name} lacks {len(result.missing)} judged queries: their turns bring nothing "
                f"({first_few(result.missing)})"
            )
        low, high = bootstrap_intervals(
            np.array([list(result.scores.values())]).T,
            resamples=arguments.resamples,
            seed=arguments.seed,
        )
        rows.append([name, len(result.scores), result.mean, float(low[0]), float(high[0])])
        report[name] = {
            "status": "ok",
            "num": result.mean,
            "low": float(low[0]),
            "high": float(high[0]),
            "sessions": result.scores,
            "without_relevant": list(result.without_relevant),
            "missing": list(result.missing),
        }
    if arguments.format == "json":
        print_json({"settings": vars(settings), "systems": report})
        return
    rows.sort(key=lambda row: (-float(row[2] if row[2] is not None else -1), str(row[0])))
    print_table(arguments, ["system", "sessions", "NUM", "low", "high"], rows)
