"""The command line of indexes: build, change, search and check one, collect a context from it.

python -m retrieval.index build pydoc --out my-index
"""

import argparse
import sys

from configs.command import run_command
from retrieval.commands import build, change, context, info, search

# What is heavy is imported by the subcommand that runs, so that --help answers at once.
SUBCOMMANDS = (build, change, search, context, info)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.index", description="Build, search and check dense indexes."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in SUBCOMMANDS:
        module.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(make_parser()))
