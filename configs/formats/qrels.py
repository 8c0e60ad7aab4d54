"""Qrels: how relevant passages are to queries, in TREC's or BEIR's columns.

Enters: a text file, plain or gzipped. Leaves: grades by query id and passage id.

    read_qrels(Path("qrels/test.tsv"))  # {"q1": {"p4": 1}}
"""

import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from configs.formats.checks import id_fault
from configs.formats.lines import PathLike, text_lines
from configs.formats.numerals import whole_number

Qrels = dict[str, dict[str, int]]
_SHAPES = (
    "TREC: query iteration passage grade, by white space; BEIR: query-id corpus-id score, by tabs, "
    "with or without a header line"
)

_QUERY_COLUMNS = ("queryid", "qid", "query", "topicid", "topic")
_JOINTS = str.maketrans("", "", "-_ ")


class Judgment(NamedTuple):
    """One label: how relevant a passage is to a query (0 = not; the scale is the collection's)."""

    query_id: str
    passage_id: str
    grade: int


def iterate_judgments(path: PathLike) -> Iterator[tuple[int, Judgment]]:
    """Line numbers and judgments of a qrels file, repeated ones included.

    Two formats are told apart by the first line: TREC's four columns, or three between tabs, which
    may be headed. Raises `ValueError` naming file and line for one that is broken.
    """
    tabs: bool | None = None
    for number, line in text_lines(path):
        if tabs is None:
            first = line.split("\t")
            tabs = len(first) == 3
            if tabs and _is_header(first):
                continue
        try:
            yield number, _judgment(line, tabs)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None


def read_qrels(path: PathLike) -> Qrels:
    """A qrels file as `{query id: {passage id: grade}}`.

    Raises `ValueError` naming file and line for a broken line, a bad id and a pair that is judged
    twice, and for a file without a judgment.
    """
    qrels: Qrels = {}
    for number, (query_id, passage_id, grade) in iterate_judgments(path):
        grades = qrels.setdefault(query_id, {})
        if passage_id in grades:
            # Found again, so that millions of judgments need not remember their lines.
            first = next(n for n, j in iterate_judgments(path) if j[:2] == (query_id, passage_id))
            raise ValueError(
                f"{path}:{number}: passage {passage_id!r} of query {query_id!r} is judged a second "
                f"time, first on line {first}; keep one of the two lines"
            )
        # The same passage appears under many queries: one copy of its id is enough.
        grades[sys.intern(passage_id)] = grade
    if not qrels:
        raise ValueError(f"{path}: holds no judgment")
    return qrels


def collect_qrels(judgments: Iterable[tuple[str, str, int]], source: str) -> Qrels:
    """The judgments (query id, passage id, grade) of a published collection, called `source`.

    Nobody can mend what is downloaded, so a pair may be judged twice alike. Raises `ValueError`
    where two grades differ, and for a bad id.
    """
    qrels: Qrels = {}
    for query_id, passage_id, grade in judgments:
        for id_ in (query_id, passage_id):
            if fault := id_fault(id_):
                raise ValueError(f"{source}: {fault}")
        known = qrels.setdefault(query_id, {}).setdefault(passage_id, grade)
        if known != grade:
            raise ValueError(
                f"{source}: passage {passage_id!r} of query {query_id!r} is judged a second time, "
                f"{known} and {grade}; write its qrels to a file and keep one of the two lines"
            )
    return qrels


def _is_header(columns: list[str]) -> bool:
    """Whether a first line names its columns, and is not a judgment with a broken grade."""
    return columns[0].lower().translate(_JOINTS) in _QUERY_COLUMNS


def _judgment(line: str, tabs: bool) -> Judgment:
    fields = line.split("\t") if tabs else line.split()
    if len(fields) != (3 if tabs else 4):
        wanted = "3 tab-separated" if tabs else "4 white-space-separated"
        raise ValueError(f"{len(fields)} columns where {wanted} ones are expected ({_SHAPES})")
    query_id, passage_id, text = fields[0], fields[-2], fields[-1]
    for what, id_ in (("query", query_id), ("passage", passage_id)):
        if fault := id_fault(id_):
            raise ValueError(f"{what}: {fault}")
    grade = whole_number(text.strip())
    if grade is None:
        raise ValueError(
            f"the grade {text!r} is not a whole number of 32 bits; grades are integers such as "
            "0, 1, 2"
        )
    return Judgment(query_id, passage_id, grade)
