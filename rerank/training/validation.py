"""How well a ranker orders labelled examples: what chooses the checkpoint.

Enters: a ranker and examples. Leaves: the mean nDCG@10.
"""

import warnings
from collections.abc import Sequence

from rerank.examples.labelled import Example
from rerank.examples.ndcg import ndcg
from rerank.prompt.windows import PassagesTruncatedWarning
from rerank.ranker import BlockRanker


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
