"""Read what mining starts from: a TREC run, qrels, and passages or queries by id.

Enters: text files. Leaves: dictionaries; a broken line raises `ValueError` naming file and line.
"""

import json
import math
from collections.abc import Set
from pathlib import Path

from rerank.candidates import ID_FIELDS, TEXT_FIELDS, Candidate
from rerank.files import text_lines


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """Scores by query and passage id, of six columns: query Q0 passage rank score tag."""
    run: dict[str, dict[str, float]] = {}
    for number, line in text_lines(path):
        fields = line.split()
        try:
            query, _, passage, _, score, _ = fields
            run.setdefault(query, {})[passage] = float(score)
            if not math.isfinite(float(score)):
                raise ValueError
        except ValueError:
            raise ValueError(
                f"{path}:{number}: {line!r}, wanted a TREC run's query Q0 passage rank score tag"
            ) from None
    if not run:
        raise ValueError(f"{path} holds no line of a run")
    return run


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Grades by query and passage id: TREC's four columns, or BEIR's three, header and tabs."""
    qrels: dict[str, dict[str, int]] = {}
    for number, line in text_lines(path):
        tabs = line.count("\t") == 2
        fields = line.split("\t") if tabs else line.split()
        if number == 1 and tabs and not fields[2].lstrip("-").isdigit():
            continue
        try:
            query, passage, grade = fields if tabs else (fields[0], *fields[2:])
            qrels.setdefault(query, {})[passage] = int(grade)
        except (ValueError, IndexError):
            raise ValueError(
                f"{path}:{number}: {line!r}, wanted query, passage and a whole grade "
                f"(TREC: query 0 passage grade; BEIR: tab-separated, with a header)"
            ) from None
    if not qrels:
        raise ValueError(f"{path} holds no judgment")
    return qrels


def read_texts(path: Path, wanted: Set[str] | None = None) -> dict[str, Candidate]:
    """Passages or queries by id from JSON Lines; of `wanted` ids alone, if they are given."""
    found: dict[str, Candidate] = {}
    for number, line in text_lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: broken JSON: {error.msg}") from None
        fields = row if isinstance(row, dict) else {}
        id_ = next((fields[name] for name in ID_FIELDS if name in fields), None)
        text = next((fields[name] for name in TEXT_FIELDS if name in fields), None)
        title = fields.get("title") or ""
        if id_ is None or not isinstance(text, str) or not isinstance(title, str):
            raise ValueError(f"{path}:{number}: wanted an object with an id and a text")
        if (wanted is None or str(id_) in wanted) and (text.strip() or title.strip()):
            found[str(id_)] = Candidate(str(id_), title, text, None)
    return found
