"""Which queries are asked, and what their judgments name that nobody has: it counts, as 0.

Enters: the queries and qrels of a collection. Leaves: the queries that have a text, the qrels of
all judged ones, and who is missing.

    judged_queries({"q1": "pears"}, {"q1": {"a": 1}, "q2": {"b": 1}}).without_text  # ("q2",)
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass

import numpy as np

from configs.formats.checks import is_blank
from configs.formats.shown import first_few
from eval.files.trec import Qrels


@dataclass(frozen=True)
class JudgedQueries:
    """`queries` can be asked; `qrels` hold those `without_text` too, which count 0."""

    queries: dict[str, str]
    qrels: Qrels
    without_text: tuple[str, ...]


@dataclass(frozen=True)
class AbsentPassages:
    """How many different passages are judged, and how many the corpus lacks (relevant among them).

    A relevant passage that is not there can't be found: measures count it as missed.
    """

    judged: int
    absent: int
    relevant: int


def judged_queries(
    queries: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]], most: int | None = None
) -> JudgedQueries:
    """The judged queries in the order of `queries`, then those without a text.

    At most `most` of them (None: all), evenly spread.
    """
    asked = {id_: text for id_, text in queries.items() if id_ in qrels and not is_blank(text)}
    ids = [*asked, *(id_ for id_ in qrels if id_ not in asked)]
    if most is not None and most < len(ids):
        ids = [ids[place] for place in np.linspace(0, len(ids) - 1, most).astype(int)]
    return JudgedQueries(
        {id_: asked[id_] for id_ in ids if id_ in asked},
        {id_: dict(qrels[id_]) for id_ in ids},
        tuple(id_ for id_ in ids if id_ not in asked),
    )


def absent_passages(
    qrels: Mapping[str, Mapping[str, int]], known: Container[str]
) -> AbsentPassages:
    """Count the judged passages that are not in `known`."""
    relevant_of: dict[str, bool] = {}
    for grades in qrels.values():
        for id_, grade in grades.items():
            relevant_of[id_] = relevant_of.get(id_, False) or grade > 0
    absent = [relevant for id_, relevant in relevant_of.items() if id_ not in known]
    return AbsentPassages(len(relevant_of), len(absent), sum(absent))


def missing_notes(asked: JudgedQueries, absent: AbsentPassages, own_hits: int = 0) -> list[str]:
    """What the reader of a result must know, in sentences; none where nothing is missing."""
    notes = []
    if asked.without_text:
        listed = first_few(asked.without_text)
        notes.append(f"{len(asked.without_text)} judged queries have no text and count 0: {listed}")
    if absent.absent:
        notes.append(
            f"{absent.absent} of {absent.judged} judged passages are not in the index, "
            f"{absent.relevant} of them relevant: these count as missed"
        )
    if own_hits:
        notes.append(
            f"{own_hits} queries found the passage of their own id, which was dropped "
            "(--keep-own keeps it)"
        )
    return notes
