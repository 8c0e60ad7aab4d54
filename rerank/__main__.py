"""The command line of the reranker: `python -m rerank SUBCOMMAND --help`.

python -m rerank rank "who wrote Faust?" --passages passages.txt
"""

import argparse
import sys

from configs.command import run_command
from rerank.commands import cache, find, mine, rank, respond, select_heads, train

# A subcommand is one module of rerank/commands and one name here. The modules import what is heavy
# inside their `run`, so that --help answers at once.
SUBCOMMANDS = (cache, find, mine, rank, respond, select_heads, train)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="python -m rerank", description="Rerank passages with BlockRank."
    )
    subparsers = parser.add_subparsers(required=True, metavar="SUBCOMMAND")
    for subcommand in SUBCOMMANDS:
        subcommand.add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(make_parser()))
