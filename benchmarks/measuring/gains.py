"""A paired difference and the lines that tell it.

Enters: a measure of the same queries before and after. Leaves: its mean, 95 % bootstrap interval
and permutation p-value; a result printed for people or as JSON.

    tell({**provenance(), **paired_gain(before, after)}, as_json=False)
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from eval.statistics.intervals import bootstrap_intervals
from eval.statistics.significance import permutation_test


def paired_gain(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """What `after` [Q] has over `before` [Q], the mean over queries."""
    gains = (after - before)[:, None]
    low, high = bootstrap_intervals(gains)
    return {
        "gain": float(gains.mean()),
        "gain_low": float(low[0]),
        "gain_high": float(high[0]),
        "p_permutation": float(permutation_test(gains)[0]),
    }


def tell(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one JSON object, or a line a value."""
    if as_json:
        print(json.dumps(dict(result)))
        return
    for name, value in result.items():
        print(f"{name:<28} {value:.4g}" if isinstance(value, float) else f"{name:<28} {value}")
