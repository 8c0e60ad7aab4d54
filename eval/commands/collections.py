"""`python -m eval collections [FOLDER] --out DIR`: the pipeline on every collection of a folder."""

import argparse
import os
from pathlib import Path

from eval.commands.output import Subparsers, add_output_options, print_json, print_table

# Where test collections are looked for when $BLOCKSEEK_DATA names no other folder.
DEFAULT_DATA = "../shared/data"


def add_collections_parser(subparsers: Subparsers) -> None:
    """Add the `collections` subcommand."""
    parser = subparsers.add_parser(
        "collections",
        help="run searches and rerankers on every collection of a folder, in one table",
        description="Index, search and rerank every BEIR folder in a folder.",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path(os.environ.get("BLOCKSEEK_DATA", DEFAULT_DATA)),
        help="a folder of BEIR folders ($BLOCKSEEK_DATA, else %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=Path("collections"), help="(%(default)s)")
    parser.add_argument("--config", default="collections", help="a YAML file of its settings")
    parser.add_argument("--rerank", nargs="+", metavar="MODEL", help="rerankers to run (mini)")
    parser.add_argument("--max-queries", type=int, help="queries a collection")
    parser.add_argument(
        "--judged",
        action="store_true",
        default=None,
        help="order only the passages judged for each query",
    )
    add_output_options(parser)
    parser.set_defaults(run=run_collections_command)


def run_collections_command(arguments: argparse.Namespace) -> None:
    """Run all and print the table."""
    from configs.settings import read_settings
    from eval.pipeline.collections import CollectionsSettings, run_collections, table

    settings = read_settings(
        CollectionsSettings,
        arguments.config,
        rerank=arguments.rerank,
        max_queries=arguments.max_queries,
        judged=arguments.judged,
    )
    reports = list(run_collections(arguments.folder, arguments.out, settings))
    if not reports:
        raise ValueError(
            f"{arguments.folder}: no collection has a query with passages of several grades"
        )
    if arguments.format == "json":
        print_json([report.as_json() for report in reports])
    else:
        print_table(arguments, *table(reports, settings))
