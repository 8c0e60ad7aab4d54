"""The command line of the reranker: `python -m rerank rank QUERY [--passages FILE]`.

Enters: a query, passages from a file or stdin. Leaves: the ranking on stdout.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from configs.command import run_command

_SNIPPET = 100


def make_parser() -> argparse.ArgumentParser:
    """The parser; nothing heavy is imported before a command runs."""
    parser = argparse.ArgumentParser(
        prog="python -m rerank", description="Rerank passages with BlockRank."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    rank = commands.add_parser("rank", help="rank passages for a query")
    rank.add_argument("query")
    rank.add_argument(
        "--passages",
        type=Path,
        help="a file of passages, one a line: plain text, or JSON with text, and id and title "
        "if you like; default: stdin",
    )
    rank.add_argument("--model", help="minilm (default), smollm2, a folder, or a hub model's name")
    rank.add_argument("--top-k", type=int, help="how many to print; default: all")
    rank.add_argument("--device", help="cpu, cuda, ...; default: the best there is")
    rank.add_argument("--dtype", help="float32, bfloat16 or float16")
    rank.add_argument("--json", action="store_true", help="print one JSON object")
    rank.set_defaults(run=_rank)
    return parser


def _rank(arguments: argparse.Namespace) -> None:
    from rerank.candidates import as_candidates

    passages = _read(arguments.passages)
    as_candidates(passages)  # a bad one is told before a model loads
    from rerank.ranker import DEFAULT_RERANKER, BlockRanker

    ranker = BlockRanker.from_pretrained(arguments.model, arguments.device, arguments.dtype)
    results = ranker.rerank(arguments.query, passages, arguments.top_k)
    if arguments.json:
        output = {
            "model": arguments.model or DEFAULT_RERANKER,
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


def _read(path: Path | None) -> list[Any]:
    """One passage a line; a line that starts like a JSON object must be one."""
    try:
        text = sys.stdin.read() if path is None else path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"--passages: {path} does not exist") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path or 'stdin'} is not UTF-8") from None
    passages: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):  # JSON may hold other line breaks
        if not line.strip():
            continue
        if not line.lstrip().startswith("{"):
            passages.append(line)
            continue
        try:
            passages.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path or 'stdin'}:{number}: broken JSON: {error.msg}") from None
    return passages


if __name__ == "__main__":
    sys.exit(run_command(make_parser()))
