import math

import pytest
import torch

from rerank.training.losses import distance_from_start, distillation, info_nce, listwise
from rerank.training.schedule import learning_rate
from rerank.training.settings import LossSettings, Source, TrainingSettings

SCORES = torch.tensor([0.3, 0.1, 0.2])


def test_info_nce_by_hand():
    """exp(3), exp(1), exp(2) at temperature .1; two of them relevant."""
    total = math.exp(3) + math.exp(1) + math.exp(2)
    one = info_nce(SCORES, torch.tensor([1, 0, 0]), 0.1)
    two = info_nce(SCORES, torch.tensor([0, 3, 1]), 0.1)
    assert float(one) == pytest.approx(-math.log(math.exp(3) / total), rel=1e-5)
    assert float(two) == pytest.approx(-math.log((math.exp(1) + math.exp(2)) / total), rel=1e-5)


def test_listwise_by_hand():
    """Grades 2 and 1 have gains 3 and 1: three quarters and a quarter of the target."""
    total = math.exp(3) + math.exp(1) + math.exp(2)
    logs = [math.log(math.exp(x) / total) for x in (3, 1, 2)]
    found = listwise(SCORES, torch.tensor([2, 0, 1]), 0.1)
    assert float(found) == pytest.approx(-(0.75 * logs[0] + 0.25 * logs[2]), rel=1e-5)


def test_listwise_of_one_relevant_passage_is_info_nce():
    grades = torch.tensor([0, 0, 1])
    torch.testing.assert_close(listwise(SCORES, grades, 0.1), info_nce(SCORES, grades, 0.1))


def test_distillation_by_hand():
    """The passage that the teacher did not score is left out of both sides."""
    teacher = torch.tensor([1.0, float("nan"), 0.0])
    wanted = [math.exp(2) / (math.exp(2) + 1), 1 / (math.exp(2) + 1)]
    found = [math.exp(3) / (math.exp(3) + math.exp(2)), math.exp(2) / (math.exp(3) + math.exp(2))]
    divergence = sum(w * math.log(w / f) for w, f in zip(wanted, found, strict=True))
    result = distillation(SCORES, teacher, 0.1, 0.5)
    assert float(result) == pytest.approx(divergence, rel=1e-5)
    assert float(distillation(SCORES, SCORES, 0.1, 0.1)) == pytest.approx(0, abs=1e-6)


def test_distance_from_start_by_hand():
    parameters = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    start = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0])}
    assert float(distance_from_start(parameters, start)) == pytest.approx((4 + 9) / 2)


def test_the_learning_rate_rises_and_falls():
    settings = TrainingSettings(
        out="x", train=(Source("y"),), learning_rate=1.0, warmup_share=0.1, final_share=0.2
    )
    rates = [learning_rate(step, 100, settings) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.6)
    assert rates[100] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"info_nce": 0.0}, "one besides start above 0"),
        ({"info_nce": 0.0, "start": 1.0}, "one besides start above 0"),
        ({"listwise": -1.0}, "wanted 0 or more"),
        ({"temperature": 0.0}, r"temperature is 0\.0, wanted more than 0"),
    ],
)
def test_losses_that_make_no_sense(change, message):
    with pytest.raises(ValueError, match=message):
        LossSettings(**change)
