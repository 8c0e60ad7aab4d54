"""`python -m retrieval.index context INDEX QUERY`.

Enters: an index and a question. Leaves: what a model that answers is to read, with its sources.
"""

import argparse
import json
from pathlib import Path

from configs.command import Subparsers
from configs.formats.checks import check_count, check_query
from configs.formats.shown import shown
from retrieval.commands.search import add_mode_options


def add_parser(commands: Subparsers) -> None:
    """Add the `context` subcommand."""
    context = commands.add_parser("context", help="collect what a model that answers is to read")
    context.add_argument("index", type=Path, help="the index's folder")
    context.add_argument("query", help="the question")
    context.add_argument(
        "--max-tokens", type=int, default=1000, help="of the whole text (default: %(default)s)"
    )
    context.add_argument(
        "--tokenizer",
        metavar="MODEL",
        help="whose tokens: a local model, a folder or a hub model's name; default: the encoder's",
    )
    context.add_argument(
        "--candidates",
        type=int,
        default=50,
        help="passages searched for, filtered and reranked (default: %(default)s)",
    )
    add_mode_options(context)
    context.add_argument("--rerank", metavar="MODEL", help="mini, minilm, a folder or a hub name")
    context.add_argument(
        "--reranker",
        metavar="NAME",
        default="blockrank",
        help="the entry point that loads it (default: %(default)s)",
    )
    context.add_argument(
        "--near",
        type=float,
        default=0.8,
        metavar="SHARE",
        help="leave out a passage of which so much stands in a better one (default: %(default)s)",
    )
    context.add_argument(
        "--order",
        choices=("best-first", "best-at-ends"),
        default="best-first",
        help="how they stand (default: %(default)s)",
    )
    context.add_argument("--device", help="cpu, cuda, ...")
    context.add_argument("--json", action="store_true", help="print an object")
    context.set_defaults(run=_context)


def _context(arguments: argparse.Namespace) -> None:
    check_query(arguments.query)  # before a model loads
    check_count("--max-tokens", arguments.max_tokens)
    check_count("--candidates", arguments.candidates)
    from retrieval.contexts import context
    from retrieval.retriever import Retriever
    from retrieval.serving.reranker import load_reranker

    retriever = Retriever.open(arguments.index, device=arguments.device)
    relevance_filter = retriever.open_filter(arguments.filter) if arguments.filter else None
    reranker = None
    if arguments.rerank:
        reranker = load_reranker(
            arguments.rerank, entry_point=arguments.reranker, device=arguments.device
        )
    found = context(
        retriever,
        arguments.query,
        max_tokens=arguments.max_tokens,
        tokenizer=arguments.tokenizer,
        candidates=arguments.candidates,
        mode=arguments.mode,
        dense_weight=arguments.dense_weight,
        where=arguments.where,
        relevance_filter=relevance_filter,
        reranker=reranker,
        near=arguments.near,
        order=arguments.order,
    )
    if arguments.json:
        print(json.dumps(found.as_json(), ensure_ascii=False))
        return
    print("\n".join(map(shown, found.text.split("\n"))))
    print()
    for marker, stretch in enumerate(found.stretches, 1):
        place = f"{stretch.start}-{stretch.end}"
        print(f"[{marker}] {shown(stretch.id)} {place}  {stretch.score:.4f}")
