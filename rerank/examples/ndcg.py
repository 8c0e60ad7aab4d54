"""nDCG of one ranking, for what training and the selection of heads choose by.

Enters: grades in the order of a ranking. Leaves: a number from 0 to 1.

    ndcg([0, 1], [1, 0])  # 0.63
"""

import math
from collections.abc import Sequence


def ndcg(ordered: Sequence[int], grades: Sequence[int], depth: int = 10) -> float:
    """Normalised discounted cumulative gain of the grades `ordered`, best rank first.

    Gain is the grade and the discount log2(rank + 1), as in trec_eval; the ideal order is that of
    `grades`. 0 where no grade is above 0.
    """
    ideal = _gain(sorted(grades, reverse=True)[:depth])
    return _gain(ordered[:depth]) / ideal if ideal else 0.0


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))
