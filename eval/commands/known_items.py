"""`python -m eval known-items CORPUS --out DIR`: a collection whose queries are summary lines."""

import argparse
from pathlib import Path

from eval.commands.output import Subparsers


def add_known_items_parser(subparsers: Subparsers) -> None:
    """Add the `known-items` subcommand."""
    parser = subparsers.add_parser(
        "known-items",
        help="make a collection of known-item queries from documentation",
        description="Take summary lines out of passages and make them queries: a BEIR folder "
        "with the splits train and test.",
    )
    parser.add_argument("corpus", help="pydoc, pydoc:PACKAGE,... or another corpus")
    parser.add_argument("--out", type=Path, required=True, help="the collection's folder")
    parser.add_argument("--train", type=int, default=400, help="queries to fit on (%(default)s)")
    parser.add_argument("--test", type=int, default=120, help="queries to test on (%(default)s)")
    parser.set_defaults(run=run_known_items)


def run_known_items(arguments: argparse.Namespace) -> None:
    """Write the folder and say what is in it."""
    from eval.pipeline.known_items import write_known_items

    if arguments.out.exists():
        raise ValueError(f"{arguments.out} exists; remove it, or name another --out")
    write_known_items(arguments.corpus, arguments.out, train=arguments.train, test=arguments.test)
    print(f"{arguments.out}: {arguments.train} train and {arguments.test} test queries")
