"""`python -m rerank rank QUERY [--passages FILE]`: rank passages for a query.

Enters: a query, passages from a file or stdin. Leaves: the ranking on stdout.
"""

import argparse
import json
from pathlib import Path

from configs.command import Subparsers
from rerank.commands.model_options import add_model_options, load_ranker, model_name
from rerank.commands.passage_file import read_passages

_SNIPPET = 100


def add_parser(subparsers: Subparsers) -> None:
    """Add the `rank` subcommand."""
    parser = subparsers.add_parser("rank", help="rank passages for a query")
    parser.add_argument("query")
    parser.add_argument(
        "--passages",
        type=Path,
        help="a file of passages, one a line: plain text, or JSON with text, and id and title "
        "if you like; default: stdin",
    )
    add_model_options(parser)
    parser.add_argument("--top-k", type=int, help="how many to print; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Rank and print."""
    from rerank.candidates import as_candidates

    passages = read_passages(arguments.passages)
    as_candidates(passages)  # a bad one is told before a model loads
    ranker = load_ranker(arguments)
    results = ranker.rerank(arguments.query, passages, arguments.top_k)
    if arguments.json:
        output = {
            "model": model_name(arguments),
            "query": arguments.query,
            "results": [result._asdict() for result in results],
        }
        print(json.dumps(output, ensure_ascii=False))
        return
    for result in results:
        (passage,) = as_candidates([result.passage])
        text = " ".join((passage.text or passage.title).split())
        snippet = text if len(text) <= _SNIPPET else f"{text[:_SNIPPET]}…"
        print(f"{result.rank:>4}  {result.score:.4f}  {result.id}  {snippet}")
