"""How well a ranker orders labelled examples: what chooses the checkpoint.

Enters: a ranker and examples. Leaves: the mean nDCG@10.
"""

import math
import warnings
from collections.abc import Sequence

from rerank.examples.labelled import Example
from rerank.prompt.windows import PassagesTruncatedWarning
from rerank.ranker import BlockRanker

DEPTH = 10


def mean_ndcg(ranker: BlockRanker, examples: Sequence[Example]) -> float:
    """The mean of `ndcg` over `examples`, in the order that the ranker gives their passages."""
    total = 0.0
    for example in examples:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PassagesTruncatedWarning)
            results = ranker.rerank(example.query, example.passages)
        ordered = [example.relevant.get(result.id, 0) for result in results]
        total += ndcg(ordered, list(example.relevant.values()))
    return total / len(examples)


def ndcg(ordered: Sequence[int], grades: Sequence[int], depth: int = DEPTH) -> float:
    """Normalised discounted cumulative gain of the grades `ordered`, best rank first.

    Gain is the grade and the discount log2(rank + 1), as in trec_eval; the ideal order is that of
    `grades`. 0 where no grade is above 0.
    """
    ideal = _gain(sorted(grades, reverse=True)[:depth])
    return _gain(ordered[:depth]) / ideal if ideal else 0.0


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))
