"""Scorers from the numbers and arrays that a filter's folder keeps.

Enters: what `state()` of a scorer gave. Leaves: that scorer.
"""

from typing import Any

import numpy as np

from configs.settings import make_settings
from retrieval.adapter.cosine_adapter import CosineAdapter
from retrieval.adapter.scorers import (
    GlobalScore,
    Isotonic,
    MaxGap,
    MaxNormalised,
    Platt,
    Rank,
    Scorer,
)

SCORERS: dict[str, type] = {
    cls.kind: cls
    for cls in (GlobalScore, MaxNormalised, Rank, MaxGap, Platt, Isotonic, CosineAdapter)
}


def restore_scorer(kind: str, numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> Scorer:
    """The scorer whose `state()` this was.

    Raises `ValueError` for an unknown kind, and numbers or arrays that are not those of its kind.
    """
    if kind not in SCORERS:
        raise ValueError(f"scorer {kind!r} is not one of {', '.join(SCORERS)}")
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name} holds what is no finite number")
    if kind == CosineAdapter.kind:
        return CosineAdapter.restored(numbers, arrays)
    scorer: Scorer = make_settings(SCORERS[kind], {**numbers, **arrays}, kind)
    return scorer
