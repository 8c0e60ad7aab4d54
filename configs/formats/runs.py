"""Runs: what a system retrieved, in TREC's six columns.

Enters: a text file, plain or gzipped. Leaves: scores by query id and passage id.

    read_run(Path("system.trec"))  # {"q1": {"p4": 0.66, "p1": 0.26}}
"""

import sys

from configs.formats.checks import id_fault
from configs.formats.lines import PathLike, text_lines
from configs.formats.numerals import finite_number

Run = dict[str, dict[str, float]]


def read_run(path: PathLike) -> Run:
    """A TREC run (`query Q0 passage rank score tag`) as `{query id: {passage id: score}}`.

    The rank column is ignored, as trec_eval does: the scores give the order. Raises `ValueError`
    naming file and line for a broken line, a bad id, a score that is no finite number and a
    passage listed twice under one query, and for a file without a line.
    """
    run: Run = {}
    previous, scores = None, {}
    intern = sys.intern
    for number, line in text_lines(path):
        fields = line.split()
        if len(fields) != 6:
            raise ValueError(
                f"{path}:{number}: {len(fields)} columns where a TREC run has 6 "
                "(query Q0 passage rank score tag)"
            )
        query_id, _, passage_id, _, text, _ = fields
        score = finite_number(text)
        if score is None:
            raise ValueError(f"{path}:{number}: the score {text!r} is not a finite number")
        if query_id != previous:
            if fault := id_fault(query_id):
                raise ValueError(f"{path}:{number}: query: {fault}")
            previous, scores = query_id, run.setdefault(query_id, {})
        if fault := id_fault(passage_id):
            raise ValueError(f"{path}:{number}: passage: {fault}")
        if passage_id in scores:
            # Found again, so that millions of lines need not remember their numbers.
            columns = ((n, text.split()) for n, text in text_lines(path))
            first = next(n for n, c in columns if (c[0], c[2]) == (query_id, passage_id))
            raise ValueError(
                f"{path}:{number}: passage {passage_id!r} is listed a second time under query "
                f"{query_id!r}, first on line {first}; a run lists a passage once per query"
            )
        scores[intern(passage_id)] = score
    if not run:
        raise ValueError(f"{path}: holds no line; an empty run cannot be evaluated")
    return run
