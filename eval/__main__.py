"""Command line of the evaluation: `python -m eval SUBCOMMAND --help`.

Enters: files of runs, qrels, labels. Leaves: tables on stdout, results in files, an exit code.

    python -m eval measure qrels.tsv system.trec.gz
"""

import argparse
import sys

from configs.command import run_command
from eval.commands.agree import add_agree_parser
from eval.commands.collections import add_collections_parser
from eval.commands.compare import add_compare_parser
from eval.commands.contexts import add_contexts_parser
from eval.commands.demo import add_demo_parser
from eval.commands.judge import add_judge_parser
from eval.commands.known_items import add_known_items_parser
from eval.commands.measure import add_measure_parser
from eval.commands.mine import add_mine_parser
from eval.commands.mini_data import add_mini_data_parser
from eval.commands.mini_fit import add_mini_fit_parser
from eval.commands.mini_mix import add_mini_mix_parser
from eval.commands.report import add_report_parser
from eval.commands.run import add_run_parser
from eval.commands.sessions import add_sessions_parser
from eval.commands.udcg import add_udcg_parser

# A subcommand is one module of eval/commands and one line here. The modules import what is heavy
# inside their run functions, so that --help answers at once.
PARSERS = (
    add_measure_parser,
    add_compare_parser,
    add_judge_parser,
    add_agree_parser,
    add_contexts_parser,
    add_sessions_parser,
    add_udcg_parser,
    add_report_parser,
    add_run_parser,
    add_known_items_parser,
    add_demo_parser,
    add_collections_parser,
    add_mine_parser,
    add_mini_data_parser,
    add_mini_mix_parser,
    add_mini_fit_parser,
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="python -m eval", description="Evaluate runs, judges and systems."
    )
    subparsers = parser.add_subparsers(metavar="SUBCOMMAND", required=True)
    for add_parser in PARSERS:
        add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(build_parser()))
