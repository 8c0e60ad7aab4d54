"""UDCG: how much retrieved passages help, and how much they distract, a model that answers.

Enters: relevance and abstention probability of each passage of a context. Leaves: one score.
Source: Redefining Retrieval Evaluation in the Era of LLMs, arXiv 2510.21440.

    python -c "from eval.measures.udcg import udcg; print(udcg([True, False], [.1, .8]))"
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RELEVANT_WEIGHT = 1.0
# The paper's gamma is 1/3; the published sample files were written with 0.333.
IRRELEVANT_WEIGHT = -1 / 3

# What an empty context scores: 0 in the published code; the sigmoid of no evidence is .5.
EMPTY_SCORES = {"zero": 0.0, "neutral": 0.5}


def udcg(
    relevant: Sequence[bool],
    abstention: Sequence[float],
    *,
    relevant_weight: float = RELEVANT_WEIGHT,
    irrelevant_weight: float = IRRELEVANT_WEIGHT,
    empty: float = 0.0,
) -> float:
    """Return the position-free UDCG of one context of k passages.

    sigmoid((1/k) * sum_i w_i (1 - a_i)), where a_i is the probability that the reader abstains
    given passage i alone, and w_i is `relevant_weight` or `irrelevant_weight`. The order of the
    passages does not matter. A context without passages scores `empty`. Raises `ValueError` for
    probabilities outside [0, 1], for sequences of different length, and for a weight whose sign
    would punish help or reward distraction.
    """
    _check(relevant, abstention)
    check_weights(relevant_weight, irrelevant_weight)
    if not relevant:
        return empty
    # math.fsum is exact, so the order of the passages cannot move the last bit.
    total = math.fsum(
        (1.0 - probability) * (relevant_weight if is_relevant else irrelevant_weight)
        for is_relevant, probability in zip(relevant, abstention, strict=True)
    )
    return _sigmoid(total / len(relevant))


def check_weights(relevant_weight: float, irrelevant_weight: float) -> None:
    """Raise `ValueError` for a weight that punishes help or rewards distraction, and for NaN."""
    if not 0 <= relevant_weight < math.inf:
        raise ValueError(f"the relevant weight is {relevant_weight:g}, wanted at least 0")
    if not -math.inf < irrelevant_weight <= 0:
        raise ValueError(
            f"the irrelevant weight is {irrelevant_weight:g}, which rewards distraction: wanted at "
            f"most 0 (the paper's gamma with its sign: --irrelevant-weight {-irrelevant_weight:g})"
        )


@dataclass(frozen=True)
class LearnedWeights:
    """Weights by position: `relevant[i]` multiplies r_i(1 - a_i), `irrelevant[i]` the rest."""

    relevant: tuple[float, ...]
    irrelevant: tuple[float, ...]

    def score(
        self, relevant: Sequence[bool], abstention: Sequence[float], *, empty: float = 0.0
    ) -> float:
        """Return sigmoid(sum_i alpha_i u+_i + beta_i u-_i) of one context.

        A context shorter than the weights lacks the later terms; a longer one is a `ValueError`.
        """
        _check(relevant, abstention)
        if not relevant:
            return empty
        if len(relevant) > len(self.relevant):
            raise ValueError(
                f"a context of {len(relevant)} passages is longer than the {len(self.relevant)} "
                "positions that weights were learned for; cut it or learn with longer contexts"
            )
        positive, negative = _utilities(relevant, abstention)
        return _sigmoid(
            math.fsum(
                [
                    weight * utility
                    for weights, utilities in (
                        (self.relevant, positive),
                        (self.irrelevant, negative),
                    )
                    for weight, utility in zip(weights, utilities, strict=False)
                ]
            )
        )


def learn_weights(
    contexts: Sequence[tuple[Sequence[bool], Sequence[float]]],
    accuracies: Sequence[float],
    *,
    inverse_penalty: float = 1.0,
) -> LearnedWeights:
    """Learn position weights by regressing the accuracy of answers on the utilities.

    `contexts` are (relevant, abstention) of each example and `accuracies` the share of right
    answers the reader gave with that context, in [0, 1]. Logistic regression without intercept
    (the formula has none), with an L2 penalty of strength 1 / `inverse_penalty` that keeps
    separable data finite. Raises `ValueError` for no examples or accuracies outside [0, 1].
    """
    from sklearn.linear_model import LogisticRegression

    if not contexts or len(contexts) != len(accuracies):
        raise ValueError(
            f"{len(contexts)} contexts and {len(accuracies)} accuracies: "
            "weights are learned from as many of both, at least one"
        )
    targets = np.asarray(accuracies, dtype=np.float64)
    if not ((targets >= 0) & (targets <= 1)).all():
        raise ValueError("accuracies must lie in [0, 1]")
    positions = max(len(relevant) for relevant, _ in contexts)
    if not positions:
        raise ValueError("all contexts are empty; there is nothing to learn from")
    features = np.zeros((len(contexts), 2 * positions))
    for row, (relevant, abstention) in enumerate(contexts):
        _check(relevant, abstention)
        positive, negative = _utilities(relevant, abstention)
        features[row, : len(positive)] = positive
        features[row, positions : positions + len(negative)] = negative
    # An accuracy of 0.7 is an example that is right with weight 0.7 and wrong with weight 0.3.
    weights = np.concatenate([targets, 1 - targets])
    model = LogisticRegression(fit_intercept=False, C=inverse_penalty, max_iter=10_000, tol=1e-10)
    if not targets.any() or (targets == 1).all():
        raise ValueError("all answers are right, or all are wrong: nothing tells passages apart")
    model.fit(
        np.concatenate([features, features]),
        np.repeat([1, 0], len(targets)),
        sample_weight=weights,
    )
    learned = model.coef_[0].tolist()
    return LearnedWeights(tuple(learned[:positions]), tuple(learned[positions:]))


def _utilities(
    relevant: Sequence[bool], abstention: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Return u+_i = r_i (1 - a_i) and u-_i = (1 - r_i)(1 - a_i)."""
    utility = [1.0 - probability for probability in abstention]
    positive = [
        value if is_relevant else 0.0 for value, is_relevant in zip(utility, relevant, strict=True)
    ]
    negative = [
        0.0 if is_relevant else value for value, is_relevant in zip(utility, relevant, strict=True)
    ]
    return positive, negative


def _check(relevant: Sequence[bool], abstention: Sequence[float]) -> None:
    if len(relevant) != len(abstention):
        raise ValueError(
            f"{len(relevant)} relevance labels and {len(abstention)} abstention probabilities: "
            "a context has one of each per passage"
        )
    for probability in abstention:
        # Written so that NaN fails, too.
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"an abstention probability must lie in [0, 1], got {probability}")


def _sigmoid(x: float) -> float:
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    # The same value without an overflow for large negative x.
    return math.exp(x) / (1.0 + math.exp(x))
