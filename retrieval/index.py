"""The command line of indexes: `python -m retrieval.index build|search|info|verify`.

Enters: options. Leaves: an index, or hits on stdout (a table, `--json` or a TREC run). The commands
that change an index are in `retrieval/index_changes.py`.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from configs.command import note, run_command
from configs.formats.checks import check_count, check_queries, id_fault
from configs.formats.lines import text_lines
from configs.formats.shown import shown, shown_line, snippet
from retrieval.index_changes import add_change_commands, tell_skipped

if TYPE_CHECKING:
    from index.records import Hit
    from retrieval.retriever import Retriever

_HITS = 10


def make_parser() -> argparse.ArgumentParser:
    """The parser; nothing heavy is imported before a command runs."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.index", description="Build, search and check dense indexes."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="encode a corpus into an index")
    build.add_argument(
        "corpus",
        help="a BEIR folder, a .jsonl, .tsv (each also .gz) or .parquet file, an ir_datasets id, "
        "or pydoc[:PACKAGE,...]",
    )
    build.add_argument("--out", type=Path, required=True, help="the index's folder")
    build.add_argument("--encoder", help="minilm (default), a folder, or a hub model's name")
    build.add_argument("--config", help="a YAML file of settings; options here win")
    build.add_argument("--faiss", help="a FAISS factory string; default: chosen by size")
    build.add_argument("--max-length", type=int, help="tokens read of a passage")
    build.add_argument(
        "--batch-size",
        type=int,
        help="how many of the longest passages are encoded at once; more fit of others",
    )
    build.add_argument("--device", help="cpu, cuda, ...; default: the best there is")
    build.add_argument(
        "--skip-bad", action="store_true", default=None, help="leave out and count bad records"
    )
    how = build.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="go on with a killed build")
    how.add_argument("--overwrite", action="store_true", help="replace the index in --out")
    build.add_argument("--json", action="store_true", help="print the manifest")
    build.set_defaults(run=_build)

    add_change_commands(commands)

    search = commands.add_parser("search", help="search an index")
    search.add_argument("index", type=Path, help="the index's folder")
    search.add_argument("query", nargs="*", help="queries; without any, one a line from stdin")
    search.add_argument("-k", type=int, help="hits a query (default: 10)")
    search.add_argument(
        "--queries", type=Path, help="queries from a file: BEIR's queries.jsonl, or id <tab> text"
    )
    search.add_argument(
        "--filter",
        metavar="COSINE|FOLDER|index",
        help="keep what is relevant: hits of at least this cosine, or by a fitted filter: its "
        "folder, or `index` for the one beside the index",
    )
    search.add_argument("--device", help="cpu, cuda, ...")
    output = search.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one object a query")
    output.add_argument("--trec", action="store_true", help="a TREC run")
    search.set_defaults(run=_search)

    info = commands.add_parser("info", help="say what an index holds")
    info.add_argument("index", type=Path, help="the index's folder")
    info.add_argument("--json", action="store_true", help="print the manifest")
    info.set_defaults(run=_info)

    verify = commands.add_parser("verify", help="check every file of an index, and its recall")
    verify.add_argument("index", type=Path, help="the index's folder")
    verify.set_defaults(run=_verify)
    return parser


def _build(arguments: argparse.Namespace) -> None:
    from configs.settings import read_settings
    from retrieval.build import IndexSettings, build_index
    from retrieval.corpora.records import Skipped

    names = ("encoder", "faiss", "max_length", "batch_size", "skip_bad")
    options = {name: getattr(arguments, name) for name in names}
    settings = read_settings(IndexSettings, arguments.config, **options)
    skipped = Skipped()
    build_index(
        arguments.corpus,
        arguments.out,
        settings,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        device=arguments.device,
        skipped=skipped,
    )
    tell_skipped(skipped)
    _show(arguments.out, arguments.json)


def _info(arguments: argparse.Namespace) -> None:
    _show(arguments.index, arguments.json)


def _show(folder: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from index.manifest import Manifest

    manifest = Manifest.read(folder)
    if as_json:
        print(json.dumps(asdict(manifest), indent=2, ensure_ascii=False))
        return
    encoder, segments = manifest.encoder, manifest.segments
    size = sum(path.stat().st_size for each in segments for path in (folder / each.data).iterdir())
    asked = max((segment.recall_queries for segment in segments), default=0)
    rows = {
        "index": str(folder),
        "corpus": manifest.corpus,
        "passages": f"{manifest.passages:,}",
        "deleted": f"{manifest.deleted:,} (compact frees their place)",
        "changes": f"{manifest.changes:,} since the build",
        "skipped": f"{manifest.skipped:,} bad records",
        "truncated": f"{manifest.truncated:,} passages longer than {encoder.max_length} tokens",
        "encoder": f"{encoder.name}, {encoder.dimension} dimensions, {encoder.pooling} pooling",
        "faiss": " and ".join(sorted({segment.faiss_factory for segment in segments})) or "none",
        "recall@10": f"{manifest.recall_at_10:.4f} of exact search ({asked} of its own vectors)",
        "size": f"{size / 1e6:.1f} MB in {sum(len(each.shards) for each in segments)} shards",
    }
    if manifest.changes:
        rows["truncated"] = f"at most {rows['truncated']}"  # some may be deleted
    else:
        del rows["deleted"], rows["changes"]
    if len(segments) > 1:
        rows["recall@10"] += ", where it is lowest"
        for each in segments:
            rows[each.data] = (
                f"{each.live:,} of {each.passages:,} passages live, {each.faiss_factory}, "
                f"recall@10 {each.recall_at_10:.4f}"
            )
    for name, value in rows.items():
        print(f"{name:<10} {shown(value)}")


def _search(arguments: argparse.Namespace) -> None:
    from retrieval.retriever import Retriever

    k = _HITS if arguments.k is None else arguments.k
    check_count("-k", k)
    queries = _queries(arguments)
    check_queries(queries.values())  # before a model loads
    retriever = Retriever.open(arguments.index, device=arguments.device)
    relevance_filter = retriever.open_filter(arguments.filter) if arguments.filter else None
    hits = retriever.search(list(queries.values()), k, relevance_filter)
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
            {**hit._asdict(), "title": passage.title, "text": passage.text}
            for hit, passage in zip(hits, passages, strict=True)
        ]
        print(json.dumps({"query_id": query_id, "query": query, "hits": found}, ensure_ascii=False))
        return
    print(f"query {shown(query_id)}: {shown_line(query)}")
    for hit, passage in zip(hits, passages, strict=True):
        text = snippet(passage.full_text)
        print(f"{hit.rank:>4}  {hit.score:.4f}  {shown(hit.id)}  {text}")


def _verify(arguments: argparse.Namespace) -> None:
    from index.verify import verify

    found = verify(arguments.index)
    if found.faults:
        raise RuntimeError(f"{arguments.index}: {'; '.join(found.faults)}")
    print(f"{arguments.index}: whole; recall@10 {found.recall_at_10:.4f} of exact search")


if __name__ == "__main__":
    sys.exit(run_command(make_parser()))
