import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.measures.udcg import LearnedWeights, learn_weights, udcg

CONTEXTS = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=8)


def test_value_worked_by_hand():
    # (0.9 * 1 - 0.5 / 3) / 2 = 0.36666...
    assert udcg([True, False], [0.1, 0.5]) == pytest.approx(1 / (1 + math.exp(-0.9 / 2 + 0.5 / 6)))


@given(CONTEXTS, st.randoms())
def test_order_never_moves_a_bit_and_the_range_is_the_sigmoids(context, random):
    shuffled = list(context)
    random.shuffle(shuffled)
    score = udcg(*zip(*context, strict=True))
    assert score == udcg(*zip(*shuffled, strict=True))
    assert 1 / (1 + math.exp(1 / 3)) - 1e-12 <= score <= 1 / (1 + math.exp(-1)) + 1e-12


@given(CONTEXTS)
def test_a_reader_that_always_abstains_finds_nothing_useful_or_harmful(context):
    relevant = [is_relevant for is_relevant, _ in context]
    assert udcg(relevant, [1.0] * len(relevant)) == 0.5


def test_relevant_helps_and_distractors_harm():
    base = udcg([True, False], [0.2, 1.0])
    assert udcg([True, False], [0.1, 1.0]) > base
    assert udcg([True, False], [0.2, 0.5]) < base


@pytest.mark.parametrize("weights", [(1.0, 0.333), (1.0, math.nan), (-1.0, -0.3), (1.0, math.inf)])
def test_a_weight_that_rewards_distraction_is_refused(weights):
    relevant, irrelevant = weights
    with pytest.raises(ValueError, match="weight is"):
        udcg([True], [0.5], relevant_weight=relevant, irrelevant_weight=irrelevant)
    assert udcg([False], [0.5], irrelevant_weight=0.0) == 0.5


def test_empty_context_is_what_the_caller_says():
    assert udcg([], []) == 0.0
    assert udcg([], [], empty=0.5) == 0.5
    assert LearnedWeights((1.0,), (-1.0,)).score([], [], empty=0.5) == 0.5


@pytest.mark.parametrize("probability", [-0.01, 1.01, float("nan")])
def test_probabilities_outside_the_unit_interval_are_refused(probability):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        udcg([True], [probability])
    with pytest.raises(ValueError, match="one of each"):
        udcg([True], [])


def test_equal_learned_weights_are_the_position_free_score():
    relevant, abstention = [True, False, False], [0.3, 0.1, 0.9]
    weights = LearnedWeights((1 / 3,) * 3, (-1 / 9,) * 3)
    assert weights.score(relevant, abstention) == pytest.approx(
        udcg(relevant, abstention), abs=1e-15
    )


def test_learning_recovers_the_weights_that_made_the_answers():
    rng = np.random.default_rng(0)
    true = LearnedWeights((2.0, 1.0, 0.5), (-1.0, -0.5, 0.2))
    contexts = [((rng.random(3) < 0.5).tolist(), rng.random(3).tolist()) for _ in range(4000)]
    accuracies = [true.score(*context) for context in contexts]
    learned = learn_weights(contexts, accuracies, inverse_penalty=1e6)
    np.testing.assert_allclose(learned.relevant, true.relevant, atol=1e-4)
    np.testing.assert_allclose(learned.irrelevant, true.irrelevant, atol=1e-4)


def test_learning_stays_finite_on_separable_answers_and_short_contexts():
    contexts = [([True, True], [0.0, 0.0]), ([False], [0.0]), ([], [])]
    learned = learn_weights(contexts, [1.0, 0.0, 0.5])
    assert all(math.isfinite(weight) for weight in learned.relevant + learned.irrelevant)
    assert learned.relevant[0] > 0 > learned.irrelevant[0]
    with pytest.raises(ValueError, match="longer than the 2 positions"):
        learned.score([True] * 3, [0.5] * 3)


@pytest.mark.parametrize(
    ("contexts", "accuracies", "word"),
    [
        ([], [], "at least one"),
        ([([True], [0.1])], [1.5], r"\[0, 1\]"),
        ([([True], [0.1])], [1.0], "all answers"),
        ([([], [])], [0.5], "empty"),
    ],
)
def test_what_cannot_be_learned_from_is_said(contexts, accuracies, word):
    with pytest.raises(ValueError, match=word):
        learn_weights(contexts, accuracies)
