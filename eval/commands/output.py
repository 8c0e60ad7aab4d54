"""The output options that subcommands share: table, JSON, CSV or LaTeX on stdout.

Enters: a header with rows, or an object for JSON. Leaves: text on stdout.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from configs.command import Subparsers as Subparsers
from configs.formats.shown import shown
from eval.reporting.tables import Cell, csv_table, latex_table, text_table


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add `--json | --csv | --latex`; the default is an aligned table."""
    group = parser.add_mutually_exclusive_group()
    for name, what in (("json", "JSON"), ("csv", "CSV"), ("latex", "a LaTeX tabular")):
        group.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, help=f"print {what}"
        )
    parser.set_defaults(format="text")


def print_table(
    arguments: argparse.Namespace, header: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> None:
    """Print the rows as the chosen kind of table (JSON is `print_json`'s)."""
    if arguments.format == "csv":
        print(csv_table(header, rows))
    elif arguments.format == "latex":
        print(latex_table(header, rows))
    else:
        # Ids and names are a stranger's; CSV and LaTeX are read by programs.
        plain = [[shown(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
        print(text_table([shown(name) for name in header], plain))


def print_json(value: Any) -> None:
    """Print `value` as JSON; a number that is not finite is a mistake of ours and raises."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
