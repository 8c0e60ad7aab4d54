"""Choose the heads that rank best on labelled queries, and how many of them.

Enters: `HeadEvidence` of labelled queries. Leaves: a `Selection`.

    select_heads(evidence, heads, most=16, method="retrieval", calibration="content_free", seed=0)

`retrieval` rates a head by the nDCG@10 of its own ranking, mean over queries. `qk` rates it by the
share of its attention that relevant passages get, less what they get for the content-free query
(QK-score of query-focused retrieval heads, arXiv 2506.09944, which rates by the mass on gold
passages). The best ones' masses are added up alike. How many: the number, out of powers of two,
whose nDCG@10 is best on queries that neither rated the heads nor count elsewhere (cross-validation
over the queries given).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from rerank.examples.ndcg import ndcg
from rerank.heads.evidence import Head, HeadEvidence

Method = Literal["retrieval", "qk"]
Calibration = Literal["none", "content_free"]
_FOLDS = 5


class Selection(NamedTuple):
    """The chosen `heads` by (layer, head), their `ratings`, and what was measured on the way.

    `validated` is the cross-validated nDCG@10 by number of heads, `left_out` the number of queries
    that rated nothing: without a relevant passage, or without another one. `scores` and `grades`
    [P] are those of all passages of the rating queries, each scored by as many heads as were
    chosen, by such as other queries chose: a probability can be fitted to them.
    """

    heads: tuple[Head, ...]
    ratings: tuple[float, ...]
    validated: dict[int, float]
    left_out: int
    scores: np.ndarray
    grades: np.ndarray

    @property
    def ndcg(self) -> float:
        """The cross-validated nDCG@10 of the chosen number of heads."""
        return self.validated[len(self.heads)]


def select_heads(
    evidence: Sequence[HeadEvidence],
    heads: Sequence[Head],
    *,
    most: int = 16,
    method: Method = "retrieval",
    calibration: Calibration = "content_free",
    seed: int = 0,
) -> Selection:
    """The best of `heads`, which name the rows of the evidence; at most `most` of them.

    Equal ratings are ordered by (layer, head). Raises `ValueError` for `most` below 1 and for
    fewer than two queries that have both a relevant passage and another one.
    """
    if most < 1:
        raise ValueError(f"the number of heads is {most}, wanted at least 1")
    usable = [each for each in evidence if (each.grades > 0).any() and (each.grades == 0).any()]
    if len(usable) < 2:
        raise ValueError(
            f"{len(usable)} of {len(evidence)} queries have both a relevant passage and another "
            f"one among their candidates; selection needs at least 2"
        )
    ratings = np.stack([_ratings(each, method, calibration) for each in usable])  # [queries, H]
    counts = _counts(min(most, len(heads)))
    folds = np.random.default_rng(seed).permutation(len(usable)) % min(_FOLDS, len(usable))
    orders = [_best_first(ratings[folds != fold].mean(0)) for fold in folds]
    scores = {
        count: [
            combined(each, order[:count], calibration)
            for each, order in zip(usable, orders, strict=True)
        ]
        for count in counts
    }
    validated = {
        count: float(
            np.mean([ranked_ndcg(s, e.grades) for s, e in zip(found, usable, strict=True)])
        )
        for count, found in scores.items()
    }
    number = max(counts, key=lambda count: (validated[count], -count))
    mean = ratings.mean(0)
    rows = sorted(_best_first(mean)[:number].tolist(), key=lambda row: heads[row])
    return Selection(
        heads=tuple(heads[row] for row in rows),
        ratings=tuple(float(mean[row]) for row in rows),
        validated=validated,
        left_out=len(evidence) - len(usable),
        scores=np.concatenate(scores[number]),
        grades=np.concatenate([each.grades for each in usable]),
    )


def combined(
    evidence: HeadEvidence, rows: Sequence[int] | np.ndarray, calibration: Calibration
) -> np.ndarray:
    """float64 [N]: the score of each passage by the heads `rows` alike, as a ranker gives it."""
    return _values(evidence, calibration)[rows].mean(0)


def ranked_ndcg(scores: np.ndarray, grades: np.ndarray) -> float:
    """nDCG@10 of passages in the order of their scores [N]; ties keep the passages' order."""
    order = np.argsort(-scores, kind="stable")
    return ndcg(grades[order].tolist(), grades.tolist())


def _ratings(evidence: HeadEvidence, method: Method, calibration: Calibration) -> np.ndarray:
    """float64 [H]: how well each head alone ranks one query's passages."""
    values = _values(evidence, calibration)
    if method == "retrieval":
        return np.array([ranked_ndcg(row, evidence.grades) for row in values])
    return values[:, evidence.grades > 0].sum(-1)


def _values(evidence: HeadEvidence, calibration: Calibration) -> np.ndarray:
    """float64 [H, N]: what a head alone gives each passage, see `rerank.scoring.calibration`."""
    return evidence.mass - evidence.content_free if calibration != "none" else evidence.mass


def _best_first(ratings: np.ndarray) -> np.ndarray:
    return np.argsort(-ratings, kind="stable")


def _counts(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    powers = [2**power for power in range(most.bit_length()) if 2**power < most]
    return [*powers, most]
