"""`python -m rerank rank QUERY [--passages FILE]`: rank passages for one query or several.

Enters: queries, passages from a file or stdin. Leaves: the rankings on stdout.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from configs.command import Subparsers
from configs.formats.checks import check_count, check_query
from rerank.commands.budget import Budget, add_budget_options, budget_of, first_scores
from rerank.commands.model_options import add_model_options, load_ranker, model_name
from rerank.commands.passage_file import read_passages
from rerank.commands.query_file import Request, read_batch, read_queries
from rerank.commands.rank_output import print_json, print_lines
from rerank.scoring.coverage_target import Target

if TYPE_CHECKING:
    from rerank.highlights import Highlights
    from rerank.prompt.candidates import Ranked

_QUERIES_AT_ONCE = 16


def add_parser(subparsers: Subparsers) -> None:
    """Add the `rank` subcommand."""
    parser = subparsers.add_parser("rank", help="rank passages for a query")
    parser.add_argument("query", nargs="?", help="the query; or --queries, or --batch")
    several = parser.add_mutually_exclusive_group()
    several.add_argument(
        "--queries",
        type=Path,
        help="a file of queries over the same passages, one a line: plain text, JSON with text "
        "and id, or .tsv of id and text",
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
        help="a file of passages, one a line: plain text, JSON with text, and id and title if you "
        "like, or .tsv of id, perhaps title, and text; default: stdin",
    )
    add_model_options(parser)
    parser.add_argument(
        "--mode",
        choices=("attention", "decode"),
        default="attention",
        help="rank by attention (%(default)s), or by the number that a whole language model would "
        "answer with",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        help="a folder that `cache build` made: all its passages are ranked, or those of "
        "--passages, and only the query is read",
    )
    add_budget_options(parser)
    parser.add_argument(
        "--coverage",
        type=float,
        help="a decoder reads to the end only the passages that get this share of the attention "
        "at a layer below, such as 0.9; the others stand below by that estimate",
    )
    parser.add_argument(
        "--coverage-passages", type=int, help="the same for so many passages, the best of them"
    )
    parser.add_argument(
        "--highlights",
        action="store_true",
        help="tell where in each passage the attention falls",
    )
    parser.add_argument("--top-k", type=int, help="how many to print; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object a query")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Rank and print, a few queries at a time."""
    if arguments.top_k is not None:
        check_count("--top-k", arguments.top_k)
    covers = Target.of(arguments.coverage, arguments.coverage_passages) is not None
    if arguments.mode == "decode" and (arguments.cache or arguments.highlights or covers):
        raise ValueError(
            "--cache, --coverage and --highlights are of attention: leave --mode decode out"
        )
    if arguments.cache is not None and covers:
        raise ValueError("--coverage with --cache, whose passages are read already: give one")
    budget = budget_of(arguments)
    if arguments.cache is not None and not arguments.cache.is_dir():
        raise ValueError(f"--cache: {arguments.cache} does not exist")
    requests = _requests(arguments)  # what is wrong with them is told before a model loads
    # Over the same passages a score is of no one query.
    firsts = first_scores(requests) if budget and arguments.queries is None else {}
    from tqdm import tqdm

    ranking = _ranking(arguments, budget, firsts)
    bar = tqdm(total=len(requests), unit="query", disable=None if len(requests) > 1 else True)
    with bar:
        for start in range(0, len(requests), _QUERIES_AT_ONCE):
            some = requests[start : start + _QUERIES_AT_ONCE]
            for request, results in zip(some, _ranked(ranking, some), strict=True):
                highlights = ranking.highlights(request, results)
                if arguments.json:
                    print_json(request, results, ranking.model, highlights)
                else:
                    print_lines(request, results, arguments.query is None, highlights)
            bar.update(len(some))


def _requests(arguments: argparse.Namespace) -> list[Request]:
    files = [arguments.queries, arguments.batch]
    if (arguments.query is not None) + sum(file is not None for file in files) != 1:
        raise ValueError("wanted one of a query, --queries FILE or --batch FILE")
    if arguments.query is not None:
        check_query(arguments.query)
    if arguments.batch is not None:
        if arguments.passages is not None:
            raise ValueError("--batch brings its own passages: leave --passages out")
        return read_batch(arguments.batch)
    passages = None
    if arguments.cache is None or arguments.passages is not None:
        passages = read_passages(arguments.passages)
    elif arguments.highlights:
        raise ValueError(
            "--highlights needs the passages' words, which a cache has not: give --passages"
        )
    if arguments.queries is not None:
        return read_queries(arguments.queries, passages)
    return [Request("1", arguments.query, passages)]


class _Ranking(NamedTuple):
    """What the model is called, how it ranks requests, and what it highlights of results."""

    model: str
    rank: Callable[[Sequence[Request]], list[list["Ranked"]]]
    highlights: Callable[[Request, Sequence["Ranked"]], dict[str, "Highlights"] | None]


def _ranked(ranking: _Ranking, some: Sequence[Request]) -> list[list["Ranked"]]:
    """The results of `some` requests; a `ValueError` names the one that it is about."""
    try:
        return ranking.rank(some)
    except ValueError as error:
        if len(some) == 1:
            where = some[0].where
            raise ValueError(f"{where}: {error}" if where else str(error)) from error
    return [_ranked(ranking, [request])[0] for request in some]


def _ranking(
    arguments: argparse.Namespace, budget: Budget, firsts: dict[str, list[float] | None]
) -> _Ranking:
    top_k = arguments.top_k
    if arguments.mode == "decode":
        from rerank.answers.decoding import DEFAULT_DECODER, AnswerDecoder

        decoder = AnswerDecoder.from_pretrained(arguments.model, arguments.device, arguments.dtype)
        return _Ranking(
            arguments.model or DEFAULT_DECODER,
            lambda some: [decoder.rerank(r.query, r.own, top_k) for r in some],
            lambda request, results: None,
        )
    ranker = load_ranker(arguments)

    def highlights(request: Request, results: Sequence["Ranked"]) -> dict[str, "Highlights"] | None:
        if not arguments.highlights:
            return None
        # Of all passages, not of those that are printed: masses are shares of the whole list.
        return {each.id: each for each in ranker.highlights(request.query, request.own)}

    coverage = {
        "coverage": arguments.coverage,
        "coverage_passages": arguments.coverage_passages,
    }
    cache = None
    if arguments.cache is not None:
        from rerank.cache.passage_cache import PassageCache

        cache = PassageCache.open(ranker, arguments.cache)
    if budget:

        def rank(some: Sequence[Request]) -> list[list["Ranked"]]:
            return [
                ranker.rerank(
                    request.query,
                    request.own,
                    top_k,
                    cache=cache,
                    first_scores=firsts.get(request.id),
                    **budget,
                    **coverage,
                )
                for request in some
            ]
    elif cache is None:

        def rank(some: Sequence[Request]) -> list[list["Ranked"]]:
            lists = [request.own for request in some]
            return ranker.rerank_batch(
                [request.query for request in some],
                lists,
                top_k,
                **coverage,
            )
    else:

        def rank(some: Sequence[Request]) -> list[list["Ranked"]]:
            return [
                cache.rerank(request.query, top_k=top_k)
                if request.passages is None
                else ranker.rerank(request.query, request.passages, top_k, cache=cache)
                for request in some
            ]

    return _Ranking(model_name(arguments), rank, highlights)
