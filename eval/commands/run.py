"""`python -m eval run COLLECTION --index DIR`: the whole pipeline on a collection, measured."""

import argparse
from pathlib import Path

from configs.command import note
from eval.commands.output import Subparsers, add_output_options, print_json, print_table


def add_run_parser(subparsers: Subparsers) -> None:
    """Add the `run` subcommand."""
    parser = subparsers.add_parser(
        "run",
        help="search, filter and rerank a collection's queries, and measure every stage",
        description="Run every judged query through the pipeline and measure each stage.",
    )
    parser.add_argument("collection", help="a BEIR folder or an ir_datasets id")
    parser.add_argument("--index", required=True, help="the index's folder")
    parser.add_argument("--split", help="split of a BEIR folder (test)")
    parser.add_argument("--rerank", metavar="MODEL", help="minilm, smollm2, a folder or a hub name")
    parser.add_argument(
        "--filter",
        metavar="SCORE|FOLDER|index",
        help="keep hits of at least this cosine, or by a fitted filter: its folder, or `index` "
        "for the one beside the index",
    )
    parser.add_argument("-k", type=int, help="hits searched for a query (100)")
    parser.add_argument(
        "--search",
        choices=("dense", "lexical", "hybrid"),
        help="by cosine (default), by words (BM25), or by both",
    )
    parser.add_argument(
        "--dense-weight",
        type=float,
        metavar="W",
        help="of hybrid search: W times the cosines and 1 - W times the BM25 scores, each laid "
        "over [0, 1]; without it reciprocal ranks are added up",
    )
    parser.add_argument(
        "--group",
        choices=("best", "sum3"),
        help="of an index of chunks, documents are measured: by their best chunk (default), or by "
        "the sum of their best three",
    )
    parser.add_argument("--measures", nargs="+", metavar="NAME", help="nDCG@10 RR@10 R@100")
    parser.add_argument(
        "--keep-own",
        action="store_true",
        default=None,
        help="keep hits under the query's own id (dropped, as BEIR does: some corpora hold the "
        "queries)",
    )
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument(
        "--out", type=Path, help="folder for TREC runs, result.json and report.html"
    )
    add_output_options(parser)
    parser.set_defaults(run=run_run)


def run_run(arguments: argparse.Namespace) -> None:
    """Evaluate, write what `--out` asks for, print the table or the JSON object."""
    from configs.settings import read_settings
    from eval.files.result_folder import check_result_folder
    from eval.pipeline.report_files import write_report
    from eval.pipeline.stages import PipelineSettings, evaluate_pipeline

    names = ("collection", "index", "split", "k", "filter", "rerank", "measures", "device")
    more = ("search", "dense_weight", "keep_own", "group")
    options = {name: getattr(arguments, name) for name in (*names, *more)}
    settings = read_settings(PipelineSettings, **options)
    if arguments.out:
        check_result_folder(arguments.out)  # before a model runs
    report = evaluate_pipeline(settings)
    for missing in report.notes:
        note(missing)
    if arguments.out:
        write_report(arguments.out, report)
    if arguments.format == "json":
        print_json(report.as_json())
    else:
        print_table(arguments, *report.rows())
