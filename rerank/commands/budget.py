"""`rank --budget-tokens` and `--budget-ms`: of a long list the best alone are read.

Enters: parsed arguments and requests. Leaves: what `BlockRanker.rerank` is to be told. A passage's
first score is the `score` of its JSON object, such as a search gave it.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from configs.formats.checks import check_count
from rerank.commands.query_file import Request


class Budget(TypedDict, total=False):
    """Empty, or one of the two."""

    budget_tokens: int
    budget_ms: float


def add_budget_options(parser: argparse.ArgumentParser) -> None:
    """Add `--budget-tokens` and `--budget-ms`."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--budget-tokens",
        type=int,
        help="read so many tokens at most, of the passages that are best by a first score; the "
        "others stand below in its order. It is the `score` in the passages' JSON (not with "
        "--queries), or else the --cache's, or else BM25 over the list",
    )
    either.add_argument(
        "--budget-ms",
        type=float,
        help="the same for as many as can be read in about so many milliseconds",
    )


def budget_of(arguments: argparse.Namespace) -> Budget:
    """The budget that was asked for; raises `ValueError` for one that is none, or reads nothing."""
    tokens, milliseconds = arguments.budget_tokens, arguments.budget_ms
    if tokens is None and milliseconds is None:
        return {}
    name = "--budget-ms" if tokens is None else "--budget-tokens"
    if arguments.mode == "decode" or arguments.highlights:
        other = "--mode decode" if arguments.mode == "decode" else "--highlights"
        raise ValueError(f"{name} with {other}, which reads all passages: leave one out")
    if arguments.cache is not None and (arguments.passages or arguments.batch) is None:
        raise ValueError(f"{name} reads passages' words, which a cache has not: give --passages")
    if tokens is not None:
        check_count(name, tokens)
        return {"budget_tokens": tokens}
    if not 0 < milliseconds < math.inf:
        raise ValueError(f"{name} is {milliseconds}, wanted a number above 0")
    return {"budget_ms": milliseconds}


def first_scores(requests: Sequence[Request]) -> dict[str, list[float] | None]:
    """By a request's id the `score` of each of its passages, None where none of them has one.

    Raises `ValueError`, naming the passage, where some have one and it lacks it or has no number.
    """
    found: dict[str, list[float] | None] = {}
    for request in requests:
        rows = [each.given if isinstance(each.given, Mapping) else {} for each in request.own]
        scores = [row.get("score") for row in rows]
        if all(score is None for score in scores):
            found[request.id] = None
            continue
        for passage, score in zip(request.own, scores, strict=True):
            if not _is_number(score):
                where = f"{request.where}: " if request.where else ""
                raise ValueError(
                    f"{where}passage {passage.id!r}: its score is {score!r:.40}, wanted a finite "
                    f"number, as other passages have one: a budget reads the best by it"
                )
        found[request.id] = [float(score) for score in scores if score is not None]
    return found


def _is_number(score: Any) -> bool:
    is_real = isinstance(score, int | float) and not isinstance(score, bool)
    return is_real and abs(score) <= sys.float_info.max
