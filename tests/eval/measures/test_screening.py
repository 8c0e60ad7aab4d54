import random

import pytest

from eval.measures.screening import mean_work_saved, screening


def test_worked_by_hand():
    # 20 relevant at ranks 1..19 and 50 of 100: 95 % after rank 19, all after rank 50.
    ranking = [f"d{number}" for number in range(1, 101)]
    relevant = {f"d{number}" for number in [*range(1, 20), 50]}
    found = screening(ranking, relevant)
    assert found.work_saved[95] == pytest.approx(0.81 - 0.05)
    assert found.work_saved[100] == pytest.approx(0.50)
    assert (found.last_relevant, found.last_relevant_share) == (50, 0.5)


def test_a_relevant_passage_that_is_not_ranked_saves_nothing_at_full_recall():
    found = screening(["a", "b", "c", "d"], {"a", "missing"})
    assert found.unranked == 1
    assert found.work_saved[100] == 0.0
    assert found.work_saved[95] == pytest.approx(-0.05)
    assert found.last_relevant is None
    assert found.last_relevant_share is None


def test_a_random_order_saves_about_nothing():
    rng = random.Random(0)
    ranking = [str(number) for number in range(1000)]
    results = []
    for _ in range(300):
        rng.shuffle(ranking)
        results.append(screening(ranking, {str(number) for number in range(100)}))
    assert mean_work_saved(results, 95) == pytest.approx(0.0, abs=0.01)


def test_a_small_recall_needs_at_least_one():
    assert screening(["x", "a"], {"a"}, recalls=(1,)).work_saved[1] == pytest.approx(-0.99)


@pytest.mark.parametrize(
    ("ranking", "relevant"), [([], {"a"}), (["a"], set()), (["a", "a"], {"a"})]
)
def test_what_cannot_be_screened_is_refused(ranking, relevant):
    with pytest.raises(ValueError, match=r"screening needs|twice"):
        screening(ranking, relevant)
