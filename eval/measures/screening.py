"""How much reading a ranking saves someone who must find (nearly) everything relevant.

Enters: a ranking of all candidates and the relevant ones. Leaves: work saved, last relevant rank.

    python -c "from eval.measures.screening import screening; print(screening(['a', 'b'], {'a'}))"
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Screening:
    """One query's screening effort.

    `work_saved[r]` is WSS@r, `last_relevant` the rank of the last relevant passage and
    `last_relevant_share` the share of the ranking down to it; None where a relevant passage is
    not ranked. `unranked` counts those.
    """

    ranked: int
    relevant: int
    unranked: int
    work_saved: dict[int, float]
    last_relevant: int | None
    last_relevant_share: float | None


def screening(
    ranking: Sequence[str], relevant: Collection[str], recalls: Sequence[int] = (95, 100)
) -> Screening:
    """Measure reading `ranking` from the top until a recall (in percent) is reached.

    WSS@r = (N - k) / N - (1 - r), where k is the first rank at which the share r of the relevant
    passages has been read (Cohen et al., JAMIA 2006): 0 is what a random order saves on average,
    and r the unreachable best. A recall that the ranking never reaches saves nothing: k = N.
    Raises `ValueError` for an empty ranking, repeated passages, or nothing relevant.
    """
    wanted = set(relevant)
    if not ranking or not wanted:
        raise ValueError(
            f"screening needs a ranking and relevant passages, got {len(ranking)} ranked and "
            f"{len(wanted)} relevant"
        )
    if len(set(ranking)) < len(ranking):
        raise ValueError("the ranking lists a passage twice")
    ranks = [rank for rank, passage in enumerate(ranking, start=1) if passage in wanted]
    total = len(ranking)
    saved = {}
    for recall in recalls:
        # In whole numbers: 0.95 * 20 is a little more than 19 in float64.
        needed = -(-recall * len(wanted) // 100)
        read = ranks[needed - 1] if 0 < needed <= len(ranks) else total
        saved[recall] = (total - read) / total - (1 - recall / 100)
    complete = len(ranks) == len(wanted)
    return Screening(
        ranked=total,
        relevant=len(wanted),
        unranked=len(wanted) - len(ranks),
        work_saved=saved,
        last_relevant=ranks[-1] if complete else None,
        last_relevant_share=ranks[-1] / total if complete else None,
    )


def mean_work_saved(results: Sequence[Screening], recall: int) -> float:
    """Return the mean WSS over queries; NaN for none."""
    values = [result.work_saved[recall] for result in results]
    return math.fsum(values) / len(values) if values else math.nan
