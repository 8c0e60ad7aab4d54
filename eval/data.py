"""Qrels and runs: read from files, written to files.

Enters: TREC or BEIR text files, plain or gzipped. Leaves: plain dictionaries keyed by query id,
then by passage id; what cannot be read raises one `ValueError` that names the file and the line.

    python -c "from eval.data import read_run; print(len(read_run('system.trec.gz')))"
"""

import gzip
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from eval.atomic_file import replacing

Qrels = dict[str, dict[str, int]]
Run = dict[str, dict[str, float]]

PathLike = str | os.PathLike[str]


class Judgment(NamedTuple):
    """One label: how relevant a passage is to a query (0 = not; the scale is the collection's)."""

    query_id: str
    passage_id: str
    grade: int


def read_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Yield (line number, line without its break) of a UTF-8 file, gzipped or not.

    Lines end at newlines alone: ids may hold the other characters that Unicode calls line breaks.
    Raises `ValueError` for bytes that are not UTF-8 and for a damaged gzip file.
    """
    source = Path(path)
    with source.open("rb") as probe:
        opener = gzip.open if probe.read(2) == b"\x1f\x8b" else open
    number = 0
    with opener(source, "rb") as file:
        try:
            for number, raw in enumerate(file, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{source}, line {number}: not UTF-8 ({error.reason}); convert the file to UTF-8"
            ) from None
        except (EOFError, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{source}: damaged gzip file after line {number} ({error}); copy it again"
            ) from None


def iterate_judgments(path: PathLike) -> Iterator[tuple[int, Judgment]]:
    """Yield (line number, judgment) of a qrels file.

    Two formats are told apart by the first line: TREC's four columns
    (`query iteration passage grade`, any white space) and BEIR's three (tabs, with a header).
    """
    columns: list[int] | None = None
    separator: str | None = None
    for number, line in read_lines(path):
        if not line.strip():
            continue
        if columns is None:
            header = line.split("\t")
            if len(header) == 3 and not _is_integer(header[2]):
                columns, separator = [0, 1, 2], "\t"
                continue
            columns = [0, 2, 3]
        fields = line.split(separator)
        if len(fields) != columns[-1] + 1:
            wanted = "3 tab-separated" if separator else "4 white-space-separated"
            raise ValueError(
                f"{path}, line {number}: {len(fields)} columns where {wanted} ones are expected "
                "(TREC: query iteration passage grade; BEIR: query-id corpus-id score with a "
                "header line)"
            )
        query_id, passage_id, grade = (fields[column] for column in columns)
        if not _is_integer(grade):
            raise ValueError(
                f"{path}, line {number}: the grade {grade!r} is not a whole number; "
                "grades are integers such as 0, 1, 2"
            )
        yield number, Judgment(query_id, passage_id, int(grade))


def read_qrels(path: PathLike) -> Qrels:
    """Read a qrels file as `{query id: {passage id: grade}}`.

    TREC's four columns or BEIR's three with a header; `.gz` too. Raises `ValueError` for a broken
    line, a pair that is judged twice, and a file without a judgment.
    """
    qrels: Qrels = {}
    for number, (query_id, passage_id, grade) in iterate_judgments(path):
        grades = qrels.setdefault(query_id, {})
        if passage_id in grades:
            raise ValueError(
                f"{path}, line {number}: passage {passage_id!r} of query {query_id!r} "
                "is judged a second time; keep one of the two lines"
            )
        # The same passage appears under many queries: one copy of its id is enough.
        grades[sys.intern(passage_id)] = grade
    if not qrels:
        raise ValueError(f"{path}: holds no judgment")
    return qrels


def read_run(path: PathLike) -> Run:
    """Read a TREC run (`query Q0 passage rank score tag`) as `{query id: {passage id: score}}`.

    The rank column is ignored, as trec_eval does: the scores give the order. `.gz` too. Raises
    `ValueError` for a broken line, a score that is no finite number, a passage listed twice under
    one query, and a file without a line.
    """
    run: Run = {}
    previous, scores = None, {}
    intern = sys.intern
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) != 6:
            if not fields:
                continue
            raise ValueError(
                f"{path}, line {number}: {len(fields)} columns where a TREC run has 6 "
                "(query Q0 passage rank score tag)"
            )
        query_id, _, passage_id, _, text, _ = fields
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise ValueError(f"{path}, line {number}: the score {text!r} is not a finite number")
        if query_id != previous:
            previous, scores = query_id, run.setdefault(query_id, {})
        if passage_id in scores:
            raise ValueError(
                f"{path}, line {number}: passage {passage_id!r} is listed a second time "
                f"under query {query_id!r}; a run lists a passage once per query"
            )
        scores[intern(passage_id)] = score
    if not run:
        raise ValueError(f"{path}: holds no line; an empty run cannot be evaluated")
    return run


def write_run(path: PathLike, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
    """Write a run in TREC format, whole or not at all; `.gz` by the name.

    Passages are ordered by (score descending, id) and ranked from 1. Scores are written with as
    many digits as it takes to read the same float64 back. Raises `ValueError` for ids or a tag
    with white space (they would break the columns) and for scores that are not finite.
    """
    _check_column(tag, "the run's tag")
    with replacing(path) as file:
        for query_id, scores in run.items():
            _check_column(query_id, "query id")
            ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
            for rank, (passage_id, score) in enumerate(ranked, start=1):
                _check_column(passage_id, "passage id")
                if not math.isfinite(score):
                    raise ValueError(
                        f"the score {score} of passage {passage_id!r}, query {query_id!r}, "
                        "is not finite and cannot be ranked"
                    )
                line = f"{query_id} Q0 {passage_id} {rank} {float(score)!r} {tag}\n"
                file.write(line.encode("utf-8"))


def write_qrels(path: PathLike, qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write qrels in TREC's four columns, in the order given; whole or not at all."""
    with replacing(path) as file:
        for query_id, grades in qrels.items():
            _check_column(query_id, "query id")
            for passage_id, grade in grades.items():
                _check_column(passage_id, "passage id")
                file.write(f"{query_id} 0 {passage_id} {int(grade)}\n".encode())


def _is_integer(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _check_column(text: str, what: str) -> None:
    if len(text.split()) != 1 or text != text.strip():
        raise ValueError(
            f"{what} {text!r} cannot stand in a column of a TREC file: "
            "it must be one word without white space"
        )
