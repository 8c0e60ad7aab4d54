"""Read queries for a subcommand, alone or with passages of their own, one a line.

Enters: lines of plain text or JSON objects. Leaves: `Request`s.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rerank.commands.passage_file import read_passages

_ID_FIELDS = ("id", "_id", "qid")


class Request(NamedTuple):
    """A query, what it is called, and the passages to rank for it (None: all of a cache)."""

    id: str
    query: str
    passages: Any


def read_queries(path: Path, passages: Sequence[Any] | None) -> list[Request]:
    """A request for each query of `path`, all over the same `passages`.

    A line is a query's text, or a JSON object with `text` and perhaps `id`; without one its number
    from 1 names it. Raises `ValueError` naming the query that has no text.
    """
    return [
        Request(id_, _text(row, ("text", "query"), f"{path}: query {id_}"), passages)
        for id_, row in _named(read_passages(path, "--queries"), path)
    ]


def read_batch(path: Path) -> list[Request]:
    """The requests of `path`, each a JSON object with `query`, `passages` and perhaps `id`.

    Raises `ValueError` naming the line's number and the field that is missing.
    """
    requests = []
    for id_, row in _named(read_passages(path, "--batch"), path):
        where = f"{path}: request {id_}"
        if not isinstance(row, dict) or not isinstance(row.get("passages"), list):
            raise ValueError(f"{where} has no 'passages', wanted an object with query and passages")
        requests.append(Request(id_, _text(row, ("query",), where), row["passages"]))
    return requests


def _named(rows: Sequence[Any], path: Path) -> list[tuple[str, Any]]:
    if not rows:
        raise ValueError(f"{path} holds no query")
    named = []
    for number, row in enumerate(rows, 1):
        fields = row if isinstance(row, dict) else {}
        named.append((str(next((fields[f] for f in _ID_FIELDS if f in fields), number)), row))
    return named


def _text(row: Any, fields: Sequence[str], where: str) -> str:
    text = row
    if isinstance(row, dict):
        text = next((row[field] for field in fields if field in row), None)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where} has no text: {json.dumps(row, ensure_ascii=False):.80}")
    return text
