"""`python -m eval mini-data --out DIR`: the training files of the reranker in the box."""

import argparse
import os
from pathlib import Path

from eval.commands.collections import DEFAULT_DATA
from eval.commands.output import Subparsers


def add_mini_data_parser(subparsers: Subparsers) -> None:
    """Add the `mini-data` subcommand."""
    parser = subparsers.add_parser(
        "mini-data",
        help="make the training files of the reranker in the box",
        description="Pairs from package descriptions, documentation and open question sets, with "
        "negatives from dense search; and the model that training starts from.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("BLOCKSEEK_DATA", DEFAULT_DATA)),
        help="where SQuAD's and Natural Questions' folders lie ($BLOCKSEEK_DATA, else %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    parser.add_argument("--config", default="mini_data", help="a YAML file of its settings")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        choices=("debian", "pydoc", "squad", "natural_questions", "keywords"),
        help="sources to leave out",
    )
    parser.set_defaults(run=run_mini_data)


def run_mini_data(arguments: argparse.Namespace) -> None:
    """Write the folder and say what is in it."""
    from configs.settings import read_settings
    from eval.mini_data.build import MiniDataSettings, build_mini_data

    if arguments.out.exists():
        raise ValueError(f"{arguments.out} exists; remove it, or name another --out")
    settings = read_settings(MiniDataSettings, arguments.config)
    counts = build_mini_data(arguments.out, settings, arguments.data, arguments.without)
    for name, count in counts.items():
        print(f"{name:<18} {count:>6} queries")
