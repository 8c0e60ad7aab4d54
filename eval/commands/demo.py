"""`python -m eval demo --out DIR`: the whole path on the documentation of the running Python."""

import argparse
from pathlib import Path

from eval.commands.output import Subparsers, add_output_options, print_json, print_table


def add_demo_parser(subparsers: Subparsers) -> None:
    """Add the `demo` subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="index, search, filter, rerank and measure the documentation of this Python",
        description="Run the whole path on the documentation of the running Python.",
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), help="its folder (%(default)s)")
    parser.add_argument("--config", default="demo", help="a YAML file of its settings")
    add_output_options(parser)
    parser.set_defaults(run=run_demo_command)


def run_demo_command(arguments: argparse.Namespace) -> None:
    """Run it, print the table, and say where the report is."""
    import sys

    from configs.settings import read_settings
    from eval.pipeline.demo import DemoSettings, run_demo

    report = run_demo(arguments.out, read_settings(DemoSettings, arguments.config))
    if arguments.format == "json":
        print_json(report.as_json())
        return
    print_table(arguments, *report.rows())
    print(f"report: {arguments.out / 'report.html'}", file=sys.stderr)
