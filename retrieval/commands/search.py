"""`python -m retrieval.index search INDEX QUERY...`.

Enters: an index and queries. Leaves: hits on stdout (a table, `--json` or a TREC run).
"""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.command import Subparsers, note
from configs.formats.checks import check_count, check_queries, id_fault
from configs.formats.lines import text_lines
from configs.formats.shown import shown, shown_line, snippet

if TYPE_CHECKING:
    from index.records import Hit, Passage
    from retrieval.retriever import Retriever

_HITS = 10


def add_parser(commands: Subparsers) -> None:
    """Add the `search` subcommand."""
    search = commands.add_parser("search", help="search an index")
    search.add_argument("index", type=Path, help="the index's folder")
    search.add_argument("query", nargs="*", help="queries; without any, one a line from stdin")
    search.add_argument("-k", type=int, help="hits a query (default: 10); documents with --group")
    search.add_argument(
        "--group",
        choices=("best", "sum3"),
        help="of an index of chunks: find documents, by their best chunk or the sum of their best "
        "three; for --trec it is best unless you say",
    )
    search.add_argument(
        "--queries", type=Path, help="queries from a file: BEIR's queries.jsonl, or id <tab> text"
    )
    add_mode_options(search)
    search.add_argument(
        "--verify", action="store_true", help="first compare every file with its digest"
    )
    search.add_argument("--device", help="cpu, cuda, ...")
    output = search.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one object a query")
    output.add_argument("--trec", action="store_true", help="a TREC run")
    search.set_defaults(run=_search)


def add_mode_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which passages are searched, by which legs, and what is cut."""
    parser.add_argument(
        "--filter",
        metavar="COSINE|FOLDER|index",
        help="keep what is relevant: hits of at least this cosine, or by a fitted filter: its "
        "folder, or `index` for the one beside the index",
    )
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        help="search passages of which this is true: \"year >= 2020 and lang = 'en'\", of fields "
        "that build --keep kept",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--mode",
        choices=("dense", "lexical", "hybrid"),
        default="dense",
        help="by cosine (default), by words (BM25), or by both",
    )
    how.add_argument(
        "--hybrid", action="store_const", const="hybrid", dest="mode", help="as --mode hybrid"
    )
    parser.add_argument(
        "--dense-weight",
        type=float,
        metavar="W",
        help="of hybrid search: W times the cosines and 1 - W times the BM25 scores, each laid "
        "over [0, 1]; without it reciprocal ranks are added up",
    )


def _search(arguments: argparse.Namespace) -> None:
    from retrieval.retriever import Retriever

    k = _HITS if arguments.k is None else arguments.k
    check_count("-k", k)
    queries = _queries(arguments)
    check_queries(queries.values())  # before a model loads
    retriever = Retriever.open(arguments.index, device=arguments.device, verify=arguments.verify)
    relevance_filter = retriever.open_filter(arguments.filter) if arguments.filter else None
    group = arguments.group
    if arguments.trec and retriever.is_of_chunks:
        group = group or "best"
    hits = retriever.search(
        list(queries.values()),
        k,
        relevance_filter,
        where=arguments.where,
        mode=arguments.mode,
        dense_weight=arguments.dense_weight,
        group=group,
    )
    if arguments.k is not None and k > len(retriever.index):
        note(f"the index holds only {len(retriever.index)} passages")
    if arguments.trec:
        _check_ids(hits)
    for (query_id, query), found in zip(queries.items(), hits, strict=True):
        _print_hits(arguments, retriever, query_id, query, found)


def _queries(arguments: argparse.Namespace) -> dict[str, str]:
    """The queries of the command line, of a file, or of stdin, by id."""
    if arguments.queries and arguments.query:
        raise ValueError("queries on the command line and --queries exclude each other")
    if arguments.queries:
        from configs.formats.queries import read_queries

        return read_queries(arguments.queries)
    texts = arguments.query or [line for _, line in text_lines(None)]
    if not texts:
        raise ValueError("no query: give one after the index, with --queries, or on stdin")
    return {str(number): text for number, text in enumerate(texts, 1)}


def _hit(hit: "Hit", is_of_chunks: bool) -> dict[str, Any]:
    """A hit and, in an index of chunks, where its text stands: characters [start, end)."""
    told: dict[str, Any] = {"id": hit.id, "score": hit.score, "rank": hit.rank}
    if is_of_chunks:
        from retrieval.chunks import place_of

        told |= place_of(hit)._asdict()
    return told


def _metadata(passage: "Passage") -> dict[str, Any]:
    """What is known of a passage besides its texts, dates and times as ISO 8601 spells them."""
    if not passage.metadata:
        return {}
    spelled = {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in passage.metadata.items()
    }
    return {"metadata": spelled}


def _check_ids(hits: "list[list[Hit]]") -> None:
    for hit in (hit for found in hits for hit in found):
        if fault := id_fault(hit.id):
            raise ValueError(f"{fault}, a TREC run can't hold it: use --json")


def _print_hits(
    arguments: argparse.Namespace,
    retriever: "Retriever",
    query_id: str,
    query: str,
    hits: "list[Hit]",
) -> None:
    if arguments.trec:
        for hit in hits:
            print(f"{query_id} Q0 {hit.id} {hit.rank} {hit.score!r} blockseek")
        return
    passages = retriever.passages(hits)
    if arguments.json:
        found = [
            {
                **_hit(hit, retriever.is_of_chunks),
                "title": passage.title,
                "text": passage.text,
                **_metadata(passage),
            }
            for hit, passage in zip(hits, passages, strict=True)
        ]
        print(json.dumps({"query_id": query_id, "query": query, "hits": found}, ensure_ascii=False))
        return
    print(f"query {shown(query_id)}: {shown_line(query)}")
    for hit, passage in zip(hits, passages, strict=True):
        text = snippet(passage.full_text)
        print(f"{hit.rank:>4}  {hit.score:.4f}  {shown(hit.passage_id)}  {text}")
