"""`python -m rerank respond`: answer requests in the JSON shape of hosted rerank services.

Enters: one request a line, on stdin or from a file. Leaves: one response a line on stdout.
"""

import argparse
import json
import sys
from pathlib import Path

from configs.command import Subparsers
from rerank.commands.model_options import add_model_options, load_ranker, model_name


def add_parser(subparsers: Subparsers) -> None:
    """Add the `respond` subcommand."""
    parser = subparsers.add_parser(
        "respond",
        help="answer JSON requests as hosted rerank services do",
        description="Answer requests {query, documents, top_n, return_documents, model}, one a "
        "line, with {model, results: [{index, relevance_score}], usage}, each as soon as it is "
        "read.",
    )
    parser.add_argument("--requests", type=Path, help="a file of requests; default: stdin")
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Answer line by line."""
    from rerank.interfaces.hosted import respond

    where = arguments.requests or "stdin"
    if arguments.requests is not None and not arguments.requests.is_file():
        raise ValueError(f"--requests: {arguments.requests} does not exist")
    ranker, model = load_ranker(arguments), model_name(arguments)
    lines = sys.stdin if arguments.requests is None else arguments.requests.open(encoding="utf-8")
    with lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                response = respond(ranker, json.loads(line), model)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where}:{number}: broken JSON: {error.msg}") from None
            except ValueError as error:
                raise ValueError(f"{where}:{number}: {error}") from None
            print(json.dumps(response, ensure_ascii=False), flush=True)
