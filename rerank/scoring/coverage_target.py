"""How much of a list is read to the end: a share of the estimated attention, or a number.

Enters: a call's arguments, then each passage's estimated mass. Leaves: which passages are read.

    Target.of(0.75, None).chosen([0.1, 0.5, 0.3, 0.1])  # [1, 2]
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from configs.formats.checks import check_count


class Target(NamedTuple):
    """What is read to the end: a `share` of the estimated mass, or a number of `passages`."""

    share: float | None
    passages: int | None

    @classmethod
    def of(cls, coverage: float | None, passages: int | None) -> "Target | None":
        """The target of a call's arguments; raises `TypeError` or `ValueError` for bad ones."""
        if coverage is None and passages is None:
            return None
        if coverage is not None and passages is not None:
            raise ValueError("coverage and coverage_passages: give one of them")
        if passages is not None:
            check_count("coverage_passages", passages)
        elif isinstance(coverage, bool) or not isinstance(coverage, int | float):
            raise TypeError(f"coverage is {coverage!r:.80}, wanted a number")
        elif not 0 < coverage <= 1:
            raise ValueError(f"coverage is {coverage!r:.80}, wanted above 0 and at most 1")
        return cls(coverage, passages)

    def chosen(self, masses: Sequence[float]) -> list[int]:
        """The places of the fewest of `masses` that reach the target, in their order.

        All where the share is 1, or where nothing has any mass. What equals the last one that is
        needed is chosen too.
        """
        ordered = sorted(masses, reverse=True)
        wanted = len(ordered)
        if self.passages is not None:
            wanted = min(self.passages, wanted)
        elif self.share is not None and self.share < 1:
            enough = self.share * math.fsum(masses)
            reached = (n for n, sum_ in enumerate(accumulate(ordered), 1) if sum_ >= enough > 0)
            wanted = next(reached, wanted)
        return [place for place, mass in enumerate(masses) if mass >= ordered[wanted - 1]]
