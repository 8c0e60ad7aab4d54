"""What can be fitted to labelled hits, by name.

Enters: `LabelledHits`. Leaves: a fitted `Scorer`.

    fit_candidate("adapter:linear:profile", labelled, AdapterSettings(), seed=0)

Names: global (the score itself), platt and isotonic (calibrations of it), max-norm (Platt's
calibration of the max-normalised score), and adapter:MAP:INPUTS for every map that has parameters
(linear, sqrt, quadratic, power; `raw` has none and is `global`) and INPUTS of embedding, profile,
both.
"""

from dataclasses import replace

import numpy as np

from retrieval.adapter.cosine_adapter import CosineAdapter
from retrieval.adapter.hits import LabelledHits
from retrieval.adapter.maps import MAPS, shape
from retrieval.adapter.network import (
    INPUTS,
    AdapterSettings,
    Start,
    network_inputs,
    profile_scale,
    train_network,
)
from retrieval.adapter.profile import score_profile
from retrieval.adapter.scorers import (
    PLAIN_SCORERS,
    GlobalScore,
    Isotonic,
    Platt,
    Scorer,
)

GLOBAL, MAX_NORM, PLATT, ISOTONIC = "global", "max-norm", "platt", "isotonic"
ADAPTERS = tuple(f"adapter:{name}:{inputs}" for inputs in INPUTS for name in MAPS if name != "raw")
CANDIDATES = (GLOBAL, MAX_NORM, PLATT, ISOTONIC, *ADAPTERS)


def usable_candidates(names: tuple[str, ...] | None, has_embeddings: bool) -> tuple[str, ...]:
    """The candidates asked for (all by default), without those that need absent embeddings.

    Raises `ValueError` for an unknown name, and for a named one whose embeddings are absent.
    """
    for name in names or ():
        if name not in CANDIDATES:
            raise ValueError(f"candidate {name!r} is not one of {', '.join(CANDIDATES)}")
        if not has_embeddings and name.endswith((":embedding", ":both")):
            raise ValueError(f"candidate {name!r} reads query embeddings and none were given")
    chosen = names or CANDIDATES
    if not has_embeddings:
        chosen = tuple(n for n in chosen if not n.endswith((":embedding", ":both")))
    # The comparison is against `global`, and its probabilities come from one of the calibrations.
    return tuple(dict.fromkeys((GLOBAL, PLATT, *chosen)))


def fit_candidate(
    name: str, labelled: LabelledHits, settings: AdapterSettings, seed: int
) -> Scorer:
    """Fit one candidate on labelled hits; deterministic for a seed."""
    if name == GLOBAL:
        return GlobalScore()
    if name in (PLATT, MAX_NORM):
        of = GLOBAL if name == PLATT else MAX_NORM
        values = PLAIN_SCORERS[of].values(labelled.hits)
        slope, offset, centre = fit_platt(values, labelled, "linear")
        return Platt(slope, offset - slope * centre, of)
    if name == ISOTONIC:
        return _fit_isotonic(labelled)
    _, map_name, inputs = name.split(":")
    return _fit_adapter(labelled, replace(settings, map=map_name, inputs=inputs), seed)


def fit_platt(scores: np.ndarray, labelled: LabelledHits, map_name: str) -> Start:
    """Logistic regression of the labels on one shaped score (float [P]), rising by construction.

    Where the data say that higher scores are less relevant the slope stays at a small positive
    value: a filter never turns the order around.
    """
    import torch
    from sklearn.linear_model import LogisticRegression

    x = scores[labelled.judged].astype(np.float64)
    centre = float(x.mean())
    pair = torch.from_numpy(np.append(x, centre))
    shaped = shape(map_name, pair, torch.ones(())).numpy()
    z = shaped[:-1] - shaped[-1]
    scale = float(z.std()) or 1.0
    model = LogisticRegression(C=1e3).fit(
        (z / scale)[:, None], labelled.labels[labelled.judged] == 1
    )
    slope = max(float(model.coef_[0, 0]) / scale, 1e-3 / scale)
    return Start(slope, float(model.intercept_[0]), centre)


def _fit_isotonic(labelled: LabelledHits) -> Isotonic:
    """Isotonic regression; Laplace smoothing of each block's share keeps its logit finite."""
    from sklearn.isotonic import IsotonicRegression

    x = labelled.hits.scores[labelled.judged].astype(np.float64)
    y = (labelled.labels[labelled.judged] == 1).astype(np.float64)
    share = IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(x)
    levels, block = np.unique(share, return_inverse=True)
    count = np.bincount(block)
    logits = np.maximum.accumulate(np.log((levels * count + 1) / ((1 - levels) * count + 1)))
    # A block is flat between its lowest and highest score; between blocks the logit rises.
    lowest, highest = np.full(len(levels), np.inf), np.full(len(levels), -np.inf)
    np.minimum.at(lowest, block, x)
    np.maximum.at(highest, block, x)
    knots, first = np.unique(np.stack([lowest, highest], axis=1), return_index=True)
    heights = np.repeat(logits, 2)[first]
    if len(knots) == 1:
        knots, heights = np.array([knots[0], knots[0] + 1.0]), np.repeat(heights, 2)
    return Isotonic(knots, heights)


def _fit_adapter(labelled: LabelledHits, settings: AdapterSettings, seed: int) -> CosineAdapter:
    embeddings = labelled.hits.embeddings if settings.inputs != "profile" else None
    profile, mean, spread = None, np.zeros(0), np.zeros(0)
    if settings.inputs != "embedding":
        profile = score_profile(labelled.hits, settings.depth)
        mean, spread = profile_scale(profile)
    x = network_inputs(embeddings, profile, mean, spread)
    start = fit_platt(labelled.hits.scores, labelled, settings.map)
    trained = train_network(labelled, x, settings, start, seed)
    weights = {name: w.numpy() for name, w in trained.items()}
    return CosineAdapter(
        settings, start, {**weights, "profile_mean": mean, "profile_spread": spread}
    )
