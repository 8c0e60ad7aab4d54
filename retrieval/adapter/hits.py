"""What the adapter is fitted on and filters: the scores of many queries' hits, laid end to end.

Enters: one descending score array per query. Leaves: flat arrays with offsets, checked once.

    pack_hits(None, [np.array([0.9, 0.2], np.float32)])
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

UNJUDGED = -1
UNJUDGED_CHOICES = ("irrelevant", "skip")


class Hits(NamedTuple):
    """Scores of Q queries: query i owns `scores[offsets[i] : offsets[i + 1]]`, descending."""

    embeddings: np.ndarray | None  # float32 [Q, d], unit rows
    scores: np.ndarray  # float32 [P]
    offsets: np.ndarray  # int64 [Q + 1]

    @property
    def queries(self) -> int:
        """Number of queries, those without a hit included."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> np.ndarray:
        """Hits of each query, int64 [Q]."""
        return np.diff(self.offsets)

    @property
    def query_of_hit(self) -> np.ndarray:
        """The query's position of each hit, int64 [P]."""
        return np.repeat(np.arange(self.queries), self.counts)

    @property
    def rank_of_hit(self) -> np.ndarray:
        """The rank of each hit in its query's list, from 0, int64 [P]."""
        return np.arange(len(self.scores)) - np.repeat(self.offsets[:-1], self.counts)

    def split(self, flat: np.ndarray) -> list[np.ndarray]:
        """Cut an array of one entry per hit into one array per query."""
        return np.split(flat, self.offsets[1:-1]) if self.queries else []


class LabelledHits(NamedTuple):
    """Hits with a label each: 1 relevant, 0 not relevant, `UNJUDGED` known to neither side.

    Unjudged hits belong to their query's score profile and to nothing else: no loss, no measure.
    """

    hits: Hits
    labels: np.ndarray  # int8 [P]
    query_ids: tuple[str, ...]

    @property
    def judged(self) -> np.ndarray:
        """Which hits carry a label, bool [P]."""
        return self.labels != UNJUDGED

    @property
    def relevant_per_query(self) -> np.ndarray:
        """Relevant hits of each query, int64 [Q]."""
        return per_query_sum(self.labels == 1, self.hits.offsets)

    def select(self, queries: np.ndarray) -> "LabelledHits":
        """The same for the chosen queries (positions), in the order given."""
        hits = self.hits
        counts = hits.counts[queries]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        take = np.arange(offsets[-1]) + np.repeat(hits.offsets[queries] - offsets[:-1], counts)
        embeddings = None if hits.embeddings is None else hits.embeddings[queries]
        chosen = Hits(embeddings, hits.scores[take], offsets)
        return LabelledHits(chosen, self.labels[take], tuple(self.query_ids[i] for i in queries))


class _HasIdAndScore(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def score(self) -> float: ...


def per_query_sum(flat: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum of a per-hit array over each query's hits (0 for a query without hits), [Q]."""
    dtype = np.int64 if flat.dtype == bool else flat.dtype
    running = np.concatenate([[0], np.cumsum(flat, dtype=dtype)])
    return running[offsets[1:]] - running[offsets[:-1]]


def pack_hits(embeddings: np.ndarray | None, scores: Sequence[np.ndarray]) -> Hits:
    """Lay the score arrays of Q queries end to end and check them.

    Raises `ValueError` for a score that is NaN or infinite, for a list that is not in descending
    order, and for embeddings that are not finite or not one row a query. A query may have no hit.
    """
    counts = [len(one) for one in scores]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    flat = np.concatenate([np.zeros(0, np.float32), *scores]).astype(np.float32)
    hits = Hits(None, flat, offsets)
    finite = np.isfinite(flat)
    if not finite.all():
        where = int(np.argmin(finite))
        raise ValueError(
            f"score {flat[where]} at rank {hits.rank_of_hit[where] + 1} of query number "
            f"{hits.query_of_hit[where] + 1} is not a finite number; check the embeddings or the "
            "reranker that made it"
        )
    rising = (np.diff(flat) > 0) & (np.diff(hits.query_of_hit) == 0)
    if rising.any():
        where = int(np.argmax(rising)) + 1
        raise ValueError(
            f"the scores of query number {hits.query_of_hit[where] + 1} rise at rank "
            f"{hits.rank_of_hit[where] + 1}; sort each query's hits by score, highest first"
        )
    if embeddings is None:
        return hits
    embeddings = np.asarray(embeddings, np.float32)
    if embeddings.ndim != 2 or len(embeddings) != len(scores):
        raise ValueError(
            f"query embeddings of shape {embeddings.shape} do not fit {len(scores)} queries; "
            "pass one row a query"
        )
    if not np.isfinite(embeddings).all():
        row = int(np.argmin(np.isfinite(embeddings).all(axis=1)))
        raise ValueError(f"the embedding of query number {row + 1} holds NaN or infinity")
    return hits._replace(embeddings=embeddings)


def pack_labelled(
    embeddings: np.ndarray | None,
    scores: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    query_ids: Sequence[str] | None = None,
) -> LabelledHits:
    """`pack_hits` with one label array per query (1, 0 or `UNJUDGED`), fit for fitting.

    Raises `ValueError` where shapes differ, a label is none of the three, a query has no hits, or
    only one class occurs.
    """
    names = (
        tuple(query_ids) if query_ids is not None else tuple(map(str, range(1, len(scores) + 1)))
    )
    if not len(scores) == len(labels) == len(names):
        raise ValueError(
            f"{len(scores)} score lists, {len(labels)} label lists and {len(names)} query ids "
            "were given; each query needs one of each"
        )
    hits = pack_hits(embeddings, scores)
    empty = np.flatnonzero(hits.counts == 0)
    if not len(scores) or len(empty):
        what = (
            f"query {names[empty[0]]!r} (one of {len(empty)})"
            if len(empty)
            else "there is no query and it"
        )
        raise ValueError(f"{what} has no hits; leave out queries that found nothing before fitting")
    for name, one, marks in zip(names, scores, labels, strict=True):
        if len(one) != len(marks):
            raise ValueError(f"query {name!r} has {len(one)} scores and {len(marks)} labels")
    flat = np.concatenate(labels).astype(np.int64)
    known = np.isin(flat, (0, 1, UNJUDGED))
    if not known.all():
        raise ValueError(
            f"label {flat[np.argmin(known)]} is not 1 (relevant), 0 (not) or {UNJUDGED} "
            "(unjudged); binarise grades first"
        )
    for label, word in ((1, "relevant"), (0, "irrelevant")):
        if not (flat == label).any():
            raise ValueError(
                f"the labels have one class only: no hit is {word}; a filter needs both, so check "
                "the grade cut, the ids of the qrels, and how unjudged hits are counted"
            )
    return LabelledHits(hits, flat.astype(np.int8), names)


def label_hits(
    results: Sequence[Sequence[_HasIdAndScore]],
    query_ids: Sequence[str],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    min_grade: int = 1,
    unjudged: str = "irrelevant",
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Scores (float32) and labels (int8) of each query's hits, from graded judgements.

    A hit is relevant when its grade is at least `min_grade`. A hit without a judgement counts as
    irrelevant, as in the usual sparse qrels, or is left out with `unjudged="skip"`, which fits
    judged pools.
    """
    if unjudged not in UNJUDGED_CHOICES:
        raise ValueError(f"unjudged={unjudged!r} is not one of {', '.join(UNJUDGED_CHOICES)}")
    default = 0 if unjudged == "irrelevant" else UNJUDGED
    scores, labels = [], []
    for query_id, hits in zip(query_ids, results, strict=True):
        grades = qrels.get(query_id, {})
        marks = [int(grades[h.id] >= min_grade) if h.id in grades else default for h in hits]
        scores.append(np.array([h.score for h in hits], np.float32))
        labels.append(np.array(marks, np.int8))
    return scores, labels
