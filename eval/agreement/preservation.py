"""Whether a judge leads to the same significant differences between systems as the truth.

Enters: per-query values [Q, S] of the same systems on the same queries under both sets of labels.
Leaves: counts of pairs of systems.

    python -c "import numpy; from eval.agreement.preservation import preservation; \
v = numpy.random.default_rng(0).random((40, 4)); print(preservation(v, v))"
"""

from typing import NamedTuple

import numpy as np

from eval.statistics.tukey import randomised_tukey


class Preservation(NamedTuple):
    """Pairs of systems by what the two sets of labels say about them.

    `agreements`: significant under both, in the same direction. `contradictions`: significant
    under both, in opposite directions. `missed`: under the truth alone. `false`: under the judge
    alone. `neither`: under none; of those and of the one-sided ones, `swapped` have means in
    opposite order.
    """

    agreements: int
    contradictions: int
    missed: int
    false: int
    neither: int
    swapped: int

    @property
    def recall(self) -> float:
        """Share of the true significances that the judge finds; NaN where there are none."""
        true = self.agreements + self.contradictions + self.missed
        return self.agreements / true if true else float("nan")

    @property
    def precision(self) -> float:
        """Share of the judge's significances that are true; NaN where it claims none."""
        claimed = self.agreements + self.contradictions + self.false
        return self.agreements / claimed if claimed else float("nan")


def preservation(
    truth: np.ndarray,
    judge: np.ndarray,
    *,
    alpha: float = 0.05,
    permutations: int = 10_000,
    seed: int = 0,
) -> Preservation:
    """Test all pairs of systems under both sets of values [Q, S] and compare the verdicts.

    Both sides have the same queries, so the same power, and the same family-wise error `alpha`
    (randomised Tukey HSD). Raises `ValueError` where the shapes differ.
    """
    if truth.shape != judge.shape:
        raise ValueError(
            f"truth {truth.shape} and judge {judge.shape} must be the same queries and systems"
        )
    pairs = np.triu_indices(truth.shape[1], 1)
    significant, order = [], []
    for values in (truth, judge):
        p_values = randomised_tukey(values, permutations=permutations, seed=seed)
        significant.append(p_values[pairs] <= alpha)
        means = values.mean(axis=0)
        order.append(np.sign(means[pairs[0]] - means[pairs[1]]))
    both = significant[0] & significant[1]
    opposite = order[0] * order[1] < 0
    return Preservation(
        agreements=int((both & ~opposite).sum()),
        contradictions=int((both & opposite).sum()),
        missed=int((significant[0] & ~significant[1]).sum()),
        false=int((significant[1] & ~significant[0]).sum()),
        neither=int((~significant[0] & ~significant[1]).sum()),
        swapped=int((~both & opposite).sum()),
    )
