"""`python -m rerank respond`: answer requests in the JSON shape of hosted rerank services.

Enters: one request a line, on stdin or from a file. Leaves: one response a line on stdout. A line
that is no good request is answered with {"error": {"message": ..., "line": ...}}, and the next one
is read: what one caller got wrong is not the others' loss, and no failure of this command.
"""

import argparse
import json
import warnings
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.command import Subparsers, note
from configs.formats.lines import NOT_UTF8, Line, parse_json, read_lines
from rerank.commands.model_options import add_model_options, load_ranker, model_name

if TYPE_CHECKING:
    from rerank.ranker import BlockRanker


def add_parser(subparsers: Subparsers) -> None:
    """Add the `respond` subcommand."""
    parser = subparsers.add_parser(
        "respond",
        help="answer JSON requests as hosted rerank services do",
        description="Answer requests {query, documents, top_n, return_documents, model}, one a "
        "line, with {model, results: [{index, relevance_score}], usage}, each as soon as it is "
        "read; a bad one with {error: {message, line}}.",
    )
    parser.add_argument("--requests", type=Path, help="a file of requests; default: stdin")
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Answer line by line."""
    lines = _lines(arguments.requests)
    ranker, model = load_ranker(arguments), model_name(arguments)
    answered = bad = 0
    for line in lines:
        if line.text is not None and not line.text.strip():
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)  # also where the last line had the same
            response = _response(ranker, line, model)
        for warning in caught:
            note(f"line {line.number}: {warning.message}")
        print(json.dumps(response, ensure_ascii=False), flush=True)
        answered += 1
        bad += "error" in response
    if bad:
        were = "was" if bad == 1 else "were"
        note(f"{bad} of {answered} requests {were} answered with an error")


def _lines(path: Path | None) -> Iterable[Line]:
    """The lines; a file that can't be read is told now, before a model is loaded."""
    lines = read_lines(path)
    # Not so stdin: a program may wait for the model before it asks.
    return lines if path is None else chain(list(islice(lines, 1)), lines)


def _response(ranker: "BlockRanker", line: Line, model: str) -> dict[str, Any]:
    from rerank.interfaces.hosted import respond

    try:
        if line.text is None:
            raise ValueError(NOT_UTF8)
        return respond(ranker, parse_json(line.text), model)
    except ValueError as error:
        return {"error": {"message": str(error), "line": line.number}}
