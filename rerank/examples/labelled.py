"""Labelled queries with their passages: what training, validation and head selection read.

Enters: JSON Lines (also `.gz`), one example a line. Leaves: checked `Example`s.

    {"query": "who wrote Faust?", "passages": [{"id": "a", "title": "", "text": "Goethe did."}],
     "relevant": {"a": 1}, "scores": {"a": 0.71}}

`relevant` gives grades (0 and passages left out: not relevant), `scores` a teacher's scores and
may be missing; passages are in any order. `id` may name the query. In place of `passages` a line
may have `passage_ids`, of passages in the file beside: `NAME.passages.jsonl.gz`.
"""

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from configs.formats.checks import as_id
from configs.formats.lines import PathLike, json_lines
from rerank.prompt.candidates import Candidate, as_candidates

FIELDS = ("id", "query", "passages", "relevant", "scores", "passage_ids")
_BESIDE = ".passages.jsonl.gz"


class Example(NamedTuple):
    """A query, its passages, grades by passage id, and a teacher's scores by passage id."""

    id: str
    query: str
    passages: tuple[Candidate, ...]
    relevant: Mapping[str, int]
    scores: Mapping[str, float]

    @property
    def positives(self) -> frozenset[str]:
        """The ids of the passages whose grade is above 0."""
        return frozenset(id_ for id_, grade in self.relevant.items() if grade > 0)


def read_examples(path: PathLike) -> list[Example]:
    """All examples of a file, in its order; an example's id is its `id` or its line number.

    Raises `ValueError` naming file and line for broken JSON, a field that is missing, unknown or
    of another type, and an id in `relevant` or `scores` that no passage has; and for a file
    without a line.
    """
    examples = []
    shared = cache(lambda: _shared(passages_beside(path)))
    for number, row in json_lines(path):
        try:
            if isinstance(row, dict) and "passage_ids" in row:
                row = _with_passages(row, shared())
            examples.append(_example(row, str(number)))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    if not examples:
        raise ValueError(f"{path} holds no example")
    return examples


def passages_beside(path: PathLike) -> Path:
    """The file of the passages that lines of `path` name by `passage_ids`."""
    path = Path(path)
    return path.with_name(f"{path.name.removesuffix('.gz').removesuffix('.jsonl')}{_BESIDE}")


def _shared(path: Path) -> dict[str, Candidate]:
    rows = [row for _, row in json_lines(path)]
    try:
        return {candidate.id: candidate for candidate in as_candidates(rows)}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _with_passages(row: dict[str, Any], shared: Mapping[str, Candidate]) -> dict[str, Any]:
    ids = row["passage_ids"]
    if "passages" in row or not isinstance(ids, list):
        raise ValueError("'passage_ids' is a list of ids, and stands in place of 'passages'")
    for id_ in ids:
        if id_ not in shared:
            raise ValueError(f"'passage_ids' names {id_!r}, which the file beside does not have")
    rest = {name: value for name, value in row.items() if name != "passage_ids"}
    return rest | {"passages": [shared[id_] for id_ in ids]}


def example_line(example: Example) -> str:
    """The line, without its break, that reads back as `example`."""
    row: dict[str, Any] = {
        "id": example.id,
        "query": example.query,
        "passages": [{"id": p.id, "title": p.title, "text": p.text} for p in example.passages],
        "relevant": dict(example.relevant),
    }
    if example.scores:
        row["scores"] = dict(example.scores)
    return json.dumps(row, ensure_ascii=False)


def _example(row: Any, number: str) -> Example:
    if not isinstance(row, dict):
        raise ValueError(f"a {type(row).__name__}, wanted an object with {', '.join(FIELDS[1:4])}")
    unknown = sorted(set(row) - set(FIELDS))
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; known: {', '.join(FIELDS)}")
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise ValueError("'query' is missing or empty, wanted a string")
    if not isinstance(row.get("passages"), list):
        raise ValueError("'passages' is missing or no list, wanted objects with id, title and text")
    candidates = tuple(as_candidates(row["passages"]))
    known = {candidate.id for candidate in candidates}
    if "relevant" not in row:
        raise ValueError("'relevant' is missing, wanted grades by passage id (it may be empty)")
    grades = _numbers(row["relevant"], "relevant", known)
    for id_, grade in grades.items():
        if grade != int(grade) or grade < 0:
            raise ValueError(f"'relevant' gives {id_!r} {grade}, wanted a whole number from 0")
    relevant = {id_: int(grade) for id_, grade in grades.items()}
    scores = _numbers(row.get("scores") or {}, "scores", known)
    id_ = number if row.get("id") is None else as_id(row["id"])
    return Example(id_, query, candidates, relevant, scores)


def _numbers(values: Any, field: str, known: set[str]) -> dict[str, float]:
    if not isinstance(values, dict):
        raise ValueError(f"'{field}' is a {type(values).__name__}, wanted numbers by passage id")
    for id_, value in values.items():
        if id_ not in known:
            raise ValueError(f"'{field}' names {id_!r}, which no passage of the line has as id")
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ValueError(f"'{field}' gives {id_!r} {value!r}, wanted a finite number")
    return values
