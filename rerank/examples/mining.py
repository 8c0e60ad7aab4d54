"""Hard negatives: passages that a system ranks high and that are not relevant.

Enters: a query's scores by passage id, as a run or a search gives them, and its grades. Leaves:
the ids of negatives; with texts, examples to train on.

    mine_negatives({"a": 0.9, "b": 0.8}, {"a": 1}, MiningSettings())  # ["b"]
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from configs.files import replacing
from rerank.examples.labelled import Example, example_line
from rerank.prompt.candidates import Candidate


@dataclass(frozen=True)
class MiningSettings:
    """Which passages count as negatives.

    Candidates are the `depth` best of a query. Relevant ones (grade of at least `min_grade`) are
    left out. One that nobody judged may be relevant too: the first `skip` ranks are passed over,
    and with a `margin` those whose score is above that of the weakest relevant passage minus the
    margin (positive-aware mining, arXiv 2407.15831). Judged ones need no such care. Of what is
    left `negatives` are taken: the first, or drawn `evenly` or `random`ly.
    """

    negatives: int = 15
    depth: int = 50
    skip: int = 0
    margin: float | None = None
    min_grade: int = 1
    draw: Literal["first", "even", "random"] = "first"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("negatives", 1), ("depth", 1), ("skip", 0), ("min_grade", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted at least {least}")


class MiningCounts(NamedTuple):
    """What became of the judged queries of a run.

    `without_relevant` had no relevant passage in the corpus, `without_negative` none to set
    against it.
    """

    examples: int
    without_relevant: int
    without_negative: int


def mine_negatives(
    scores: Mapping[str, float],
    grades: Mapping[str, int],
    settings: MiningSettings,
    query_id: str = "",
) -> list[str]:
    """The ids of at most `settings.negatives` passages, hardest first.

    Passages are ranked by (score descending, id). A random draw follows from the seed and
    `query_id` alone.
    """
    positives = [id_ for id_, grade in grades.items() if grade >= settings.min_grade]
    known = [scores[id_] for id_ in positives if id_ in scores]
    ceiling = float("inf")
    if settings.margin is not None and known:
        ceiling = min(known) - settings.margin
    ordered = sorted(scores, key=lambda id_: (-scores[id_], id_))[: settings.depth]
    eligible = [
        id_
        for rank, id_ in enumerate(ordered)
        if grades.get(id_, 0) < settings.min_grade
        and (id_ in grades or (rank >= settings.skip and scores[id_] <= ceiling))
    ]
    count = min(settings.negatives, len(eligible))
    if settings.draw == "first":
        return eligible[:count]
    if settings.draw == "even":
        return [eligible[i * len(eligible) // count] for i in range(count)]
    digest = hashlib.sha256(query_id.encode()).digest()[:8]
    generator = np.random.default_rng([settings.seed, int.from_bytes(digest, "big")])
    drawn = generator.choice(len(eligible), size=count, replace=False)
    return [eligible[place] for place in sorted(drawn)]


def mined_examples(
    queries: Mapping[str, str],
    run: Mapping[str, Mapping[str, float]],
    qrels: Mapping[str, Mapping[str, int]],
    texts: Callable[[Sequence[str]], Mapping[str, Candidate]],
    settings: MiningSettings,
    *,
    teacher: Mapping[str, Mapping[str, float]] | None = None,
) -> tuple[list[Example], MiningCounts]:
    """An example for each judged query of `run`, relevant passages first, and what was left out.

    `texts` gives the passages of ids, those that the corpus has; scores of a `teacher` go along.
    Raises `ValueError` for a judged query of the run that `queries` does not hold.
    """
    examples: list[Example] = []
    without_relevant = without_negative = 0
    for query_id, scores in run.items():
        grades = qrels.get(query_id)
        if grades is None:
            continue
        if query_id not in queries:
            raise ValueError(f"the run has query {query_id!r}, and the queries have no such id")
        negatives = mine_negatives(scores, grades, settings, query_id)
        positives = [id_ for id_, grade in grades.items() if grade >= settings.min_grade]
        found = texts([*positives, *negatives])
        ids = [id_ for id_ in (*positives, *negatives) if id_ in found]
        relevant = {id_: grades[id_] for id_ in positives if id_ in found}
        if not relevant:
            without_relevant += 1
        elif len(ids) == len(relevant):
            without_negative += 1
        else:
            soft = (teacher or {}).get(query_id, {})
            passages = tuple(found[id_] for id_ in ids)
            known = {id_: soft[id_] for id_ in ids if id_ in soft}
            examples.append(Example(query_id, queries[query_id], passages, relevant, known))
    return examples, MiningCounts(len(examples), without_relevant, without_negative)


def write_examples(path: Path, examples: Sequence[Example], record: Mapping[str, Any]) -> None:
    """Write a training file, and beside it `NAME.json`, which records where it came from."""
    with replacing(path) as file:
        for example in examples:
            file.write(f"{example_line(example)}\n".encode())
    with replacing(path.with_name(f"{path.name}.json")) as file:
        file.write(json.dumps(dict(record), indent=1).encode() + b"\n")
