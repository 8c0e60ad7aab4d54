"""`python -m eval mine COLLECTION --index DIR --out FILE`: a training file from an index.

Enters: a collection with judgments and an index of its corpus. Leaves: a file of examples for
`python -m rerank train`, negatives taken from dense search.
"""

import argparse
from dataclasses import asdict

from eval.commands.output import Subparsers
from rerank.commands.mine import add_mining_options, mining_options, write_mined


def add_mine_parser(subparsers: Subparsers) -> None:
    """Add the `mine` subcommand."""
    parser = subparsers.add_parser(
        "mine",
        help="make a training file for the reranker from an index and judgments",
        description="Take hard negatives out of dense search.",
    )
    parser.add_argument("collection", help="a BEIR folder or an ir_datasets id")
    parser.add_argument("--index", required=True, help="the index's folder")
    parser.add_argument("--split", default="train", help="split of a BEIR folder (%(default)s)")
    parser.add_argument(
        "--teacher", action="store_true", help="let dense search's scores go along as a teacher's"
    )
    parser.add_argument("--device", help="cpu, cuda, ...")
    add_mining_options(parser)
    parser.set_defaults(run=run_mine)


def run_mine(arguments: argparse.Namespace) -> None:
    """Search, mine, write, and say what became of the queries."""
    from eval.pipeline.mining import mine_from_index
    from rerank.examples.mining import MiningSettings

    settings = MiningSettings(**mining_options(arguments))
    examples, counts, index = mine_from_index(
        arguments.collection,
        arguments.index,
        settings,
        split=arguments.split,
        teacher=arguments.teacher,
        device=arguments.device,
    )
    record = {
        "collection": arguments.collection,
        "split": arguments.split,
        "index": index,
        "settings": asdict(settings),
    }
    write_mined(arguments.out, examples, counts, record)
