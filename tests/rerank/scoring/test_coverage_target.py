"""Which passages a coverage chooses, by hand."""

import itertools

import pytest

from rerank.scoring.coverage_target import Target


@pytest.mark.parametrize(
    ("target", "chosen"),
    [
        (Target(0.5, None), [1]),
        (Target(0.51, None), [1, 3]),
        (Target(0.7, None), [1, 3]),
        (Target(0.8, None), [0, 1, 2, 3]),  # equal ones stand or fall together
        (Target(1.0, None), [0, 1, 2, 3, 4]),
        (Target(None, 1), [1]),
        (Target(None, 3), [0, 1, 2, 3]),
        (Target(None, 9), [0, 1, 2, 3, 4]),
    ],
)
def test_the_choice_by_hand(target, chosen):
    masses = [0.125, 0.5, 0.125, 0.25, 0.0]
    assert target.chosen(masses) == chosen
    for order in itertools.permutations(range(5)):
        found = target.chosen([masses[place] for place in order])
        assert sorted(order[place] for place in found) == chosen


def test_where_nothing_has_mass_all_are_chosen():
    assert Target(0.5, None).chosen([0.0, 0.0]) == [0, 1]
