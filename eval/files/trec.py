"""Qrels and runs as evaluation speaks of them: the readers' types, and the writers.

Enters: dictionaries keyed by query id, then by passage id. Leaves: text files that read back.

    python -c "from eval.files.trec import read_run; print(len(read_run('system.trec.gz')))"
"""

import math
from collections.abc import Mapping

from configs.files import replacing
from configs.formats.checks import id_fault
from configs.formats.lines import PathLike
from configs.formats.qrels import Judgment, Qrels, iterate_judgments, read_qrels
from configs.formats.runs import Run, read_run

__all__ = [
    "Judgment",
    "PathLike",
    "Qrels",
    "Run",
    "iterate_judgments",
    "read_qrels",
    "read_run",
    "write_qrels",
    "write_run",
]


def write_run(path: PathLike, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
    """Write a run in TREC format, whole or not at all; `.gz` by the name.

    Passages are ordered by (score descending, id) and ranked from 1. Scores are written with as
    many digits as it takes to read the same float64 back. Raises `ValueError` for ids or a tag
    that would break the columns and for scores that are not finite.
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


def _check_column(text: str, what: str) -> None:
    if fault := id_fault(text):
        raise ValueError(f"{what} {text!r} cannot stand in a column of a TREC file: {fault}")
