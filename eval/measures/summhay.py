"""SummHay: which insights a summary covers, and whether it cites the right documents for them.

Enters: for each reference insight, how a summary covers it and with which bullet.
Leaves: coverage, citation and joint score.
Source: Summary of a Haystack, arXiv 2407.01370, and its repository's evaluation.

    python -c "from eval.measures.summhay import Insight, summhay; \
print(summhay([Insight('full', '- cheaper [1, 2]', frozenset({1}))]))"
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

COVERAGE = {"full": 1.0, "partial": 0.5, "none": 0.0}

_CITATION = re.compile(r"\[([\d,\s]+)\]")


class Insight(NamedTuple):
    """How a summary treats one reference insight.

    `coverage` is full, partial or none; `bullet` the summary's bullet that covers it ("" for
    none); `documents` the numbers of the documents that hold the insight.
    """

    coverage: str
    bullet: str
    documents: frozenset[int]


@dataclass(frozen=True)
class SummHay:
    """Means over insights, in [0, 1]. Citation values are over covered insights alone, None where
    there is none; `joint` multiplies coverage and citation, an insight not covered counting 0."""

    coverage: float
    citation: float | None
    citation_precision: float | None
    citation_recall: float | None
    joint: float


def citations(bullet: str) -> frozenset[int]:
    """Return the document numbers cited as [3] or [1, 2]."""
    return frozenset(
        int(number)
        for group in _CITATION.findall(bullet)
        for number in group.replace(",", " ").split()
    )


def summhay(insights: Sequence[Insight]) -> SummHay:
    """Score one summary.

    The citation score of a covered insight is the F1 of the documents cited in its bullet against
    those that hold the insight; without a citation it is 0. Raises `ValueError` for no insights,
    an unknown coverage, and a covered insight without a bullet.
    """
    if not insights:
        raise ValueError("a summary is scored on at least one insight")
    covered, joint = [], []
    for number, insight in enumerate(insights, start=1):
        if insight.coverage not in COVERAGE:
            raise ValueError(
                f"insight {number}: coverage {insight.coverage!r} is none of {', '.join(COVERAGE)}"
            )
        if insight.coverage == "none":
            joint.append(0.0)
            continue
        if not insight.bullet.strip():
            raise ValueError(f"insight {number} is covered, but no bullet covers it")
        cited = citations(insight.bullet)
        right = len(cited & insight.documents)
        precision = right / len(cited) if cited else 0.0
        recall = right / len(insight.documents) if insight.documents else 0.0
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        covered.append((f1, precision, recall))
        joint.append(COVERAGE[insight.coverage] * f1)
    means = [sum(column) / len(covered) for column in zip(*covered, strict=True)] or [None] * 3
    return SummHay(
        coverage=sum(COVERAGE[insight.coverage] for insight in insights) / len(insights),
        citation=means[0],
        citation_precision=means[1],
        citation_recall=means[2],
        joint=sum(joint) / len(joint),
    )
