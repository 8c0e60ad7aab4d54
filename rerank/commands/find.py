"""`python -m rerank find QUERY [FILE...]`: which documents answer, and where in them.

Enters: a query, documents of any length from files or stdin. Leaves: the ranking on stdout.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.command import Subparsers
from configs.formats.checks import check_count, check_query, text_fault
from configs.formats.shown import shown, snippet
from rerank.commands.document_file import read_documents
from rerank.commands.model_options import add_model_options, load_ranker, model_name

if TYPE_CHECKING:
    from rerank.documents.ranking import RankedDocument
    from rerank.prompt.candidates import Candidate

_SHOWN_CHARACTERS = 200


def add_parser(subparsers: Subparsers) -> None:
    """Add the `find` subcommand."""
    parser = subparsers.add_parser("find", help="find what answers a query in long documents")
    parser.add_argument("query")
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="a document each; .jsonl and .tsv, as `rank` reads them, hold one a line; default, "
        "and `-`: one document from stdin",
    )
    add_model_options(parser)
    parser.add_argument("--top-k", type=int, help="how many documents to print; default: all")
    parser.add_argument(
        "--spans", type=int, default=3, help="places of each to print at most (%(default)s)"
    )
    parser.add_argument(
        "--block-tokens", type=int, help="tokens of text read as one block at most; default: 160"
    )
    parser.add_argument(
        "--overlap-tokens", type=int, help="of which so many repeat the block before; default: 40"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Read, rank and print."""
    check_query(arguments.query)
    for name in ("top_k", "spans", "block_tokens"):
        if getattr(arguments, name) is not None:
            check_count(f"--{name.replace('_', '-')}", getattr(arguments, name))
    documents = read_documents(arguments.files)  # what is wrong is told before a model loads
    found = _found(arguments, documents)
    if arguments.json:
        _print_json(arguments.query, found, model_name(arguments))
    else:
        _print_lines(found)


def _found(
    arguments: argparse.Namespace, documents: Sequence["Candidate"]
) -> list["RankedDocument"]:
    """The ranking of `documents`; on a terminal a bar tells how much of them was read."""
    from tqdm import tqdm

    from rerank.documents.blocks import Cut
    from rerank.documents.ranking import rank_documents

    sizes = {"size": arguments.block_tokens, "overlap": arguments.overlap_tokens}
    cut = Cut(**{name: tokens for name, tokens in sizes.items() if tokens is not None})
    ranker = load_ranker(arguments)
    characters = sum(len(document.text) for document in documents)
    with tqdm(
        total=characters, desc="read", unit=" characters", unit_scale=True, disable=None
    ) as bar:
        (found,) = rank_documents(
            ranker,
            [arguments.query],
            documents,
            arguments.top_k,
            cut,
            arguments.spans,
            bar.update,
        )
    return found


def _print_json(query: str, found: Sequence["RankedDocument"], model: str) -> None:
    """One line: model, query and results; of the documents only the spans' texts."""
    results = []
    for each in found:
        fields = each._asdict()
        del fields["document"]
        results.append({**fields, "spans": [span._asdict() for span in each.spans]})
    output = {"model": model, "query": query, "results": results}
    line = json.dumps(output, ensure_ascii=False)
    # A file's name may hold bytes that are not UTF-8, which JSON alone can spell.
    print(json.dumps(output) if text_fault(line) else line)


def _print_lines(found: Sequence["RankedDocument"]) -> None:
    """A line a document, below it a line a span: characters, score, text."""
    for each in found:
        print(f"{each.rank:>4}  {each.score:.4f}  {shown(each.id)}")
        for span in each.spans:
            text = snippet(span.text, _SHOWN_CHARACTERS)
            print(f"      {span.start}-{span.end}  {span.score:.4f}  {text}")
