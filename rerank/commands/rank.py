"""`python -m rerank rank QUERY [--passages FILE]`: rank passages for one query or several.

Enters: queries, passages from a file or stdin. Leaves: the rankings on stdout.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.command import Subparsers
from rerank.commands.model_options import add_model_options, load_ranker, model_name
from rerank.commands.passage_file import read_passages
from rerank.commands.query_file import Request, read_batch, read_queries

if TYPE_CHECKING:
    from rerank.candidates import Ranked

_SNIPPET = 100
_QUERIES_AT_ONCE = 16


def add_parser(subparsers: Subparsers) -> None:
    """Add the `rank` subcommand."""
    parser = subparsers.add_parser("rank", help="rank passages for a query")
    parser.add_argument("query", nargs="?", help="the query; or --queries, or --batch")
    several = parser.add_mutually_exclusive_group()
    several.add_argument(
        "--queries",
        type=Path,
        help="a file of queries over the same passages, one a line: plain text, or JSON with text "
        "and id",
    )
    several.add_argument(
        "--batch",
        type=Path,
        help="a file of queries with their own passages, one a line: JSON with query, passages "
        "and id",
    )
    parser.add_argument(
        "--passages",
        type=Path,
        help="a file of passages, one a line: plain text, or JSON with text, and id and title "
        "if you like; default: stdin",
    )
    add_model_options(parser)
    parser.add_argument(
        "--mode",
        choices=("attention", "decode"),
        default="attention",
        help="rank by attention (%(default)s), or by the number that a whole language model would "
        "answer with",
    )
    parser.add_argument("--top-k", type=int, help="how many to print; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object a query")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Rank and print, a few queries at a time."""
    from rerank.candidates import as_candidates

    requests = _requests(arguments)
    for request in requests:
        as_candidates(request.passages)  # a bad one is told before a model loads
    from tqdm import tqdm

    rank, model = _ranker(arguments)
    bar = tqdm(total=len(requests), unit="query", disable=None if len(requests) > 1 else True)
    with bar:
        for start in range(0, len(requests), _QUERIES_AT_ONCE):
            some = requests[start : start + _QUERIES_AT_ONCE]
            for request, results in zip(some, rank(some), strict=True):
                if arguments.json:
                    print(json.dumps(_as_json(request, results, model), ensure_ascii=False))
                else:
                    _print(request, results, titled=arguments.query is None)
            bar.update(len(some))


def _requests(arguments: argparse.Namespace) -> list[Request]:
    files = [arguments.queries, arguments.batch]
    if (arguments.query is not None) + sum(file is not None for file in files) != 1:
        raise ValueError("wanted one of a query, --queries FILE or --batch FILE")
    if arguments.batch is not None:
        if arguments.passages is not None:
            raise ValueError("--batch brings its own passages: leave --passages out")
        return read_batch(arguments.batch)
    passages = read_passages(arguments.passages)
    if arguments.queries is not None:
        return read_queries(arguments.queries, passages)
    return [Request("1", arguments.query, passages)]


def _ranker(arguments: argparse.Namespace) -> tuple[Any, str]:
    """What ranks a list of requests, and what the model is called."""
    top_k = arguments.top_k
    if arguments.mode == "decode":
        from rerank.answer_decoding import DEFAULT_DECODER, AnswerDecoder

        decoder = AnswerDecoder.from_pretrained(arguments.model, arguments.device, arguments.dtype)
        return (
            lambda some: [decoder.rerank(r.query, r.passages, top_k) for r in some],
            arguments.model or DEFAULT_DECODER,
        )
    ranker = load_ranker(arguments)
    return (
        lambda some: ranker.rerank_batch(
            [r.query for r in some], [r.passages for r in some], top_k
        ),
        model_name(arguments),
    )


def _as_json(request: Request, results: Sequence["Ranked"], model: str) -> dict[str, Any]:
    return {
        "model": model,
        "id": request.id,
        "query": request.query,
        "results": [_told(result) for result in results],
    }


def _told(result: "Ranked") -> dict[str, Any]:
    told = result._asdict()
    if result.probability is None:
        del told["probability"]
    return told


def _print(request: Request, results: Sequence["Ranked"], titled: bool) -> None:
    from rerank.candidates import as_candidates

    if titled:
        print(f"query {request.id}: {request.query}")
    for result in results:
        (passage,) = as_candidates([result.passage])
        text = " ".join((passage.text or passage.title).split())
        snippet = text if len(text) <= _SNIPPET else f"{text[:_SNIPPET]}…"
        print(f"{result.rank:>4}  {result.score:.4f}  {result.id}  {snippet}")
