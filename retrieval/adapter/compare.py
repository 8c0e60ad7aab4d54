"""Which candidate to keep: cross-validation over queries, gains with their noise, the choice.

Enters: labelled hits of development queries and names of candidates. Leaves: a row of numbers per
candidate, and the name of the one to keep with the reason in words.

    rows = compare(labelled, cross_validate(labelled, names, folds, settings, 0), folds, 0)
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from retrieval.adapter.candidates import GLOBAL, ISOTONIC, PLATT, fit_candidate
from retrieval.adapter.hits import LabelledHits
from retrieval.adapter.measures import (
    bootstrap_weights,
    curves_by_part,
    expected_calibration_error,
    log_losses,
)
from retrieval.adapter.network import AdapterSettings
from retrieval.adapter.scorers import sigmoid

_SAMPLES = 1000
_CONFIDENCE = 0.95
_TAIL = (1 - _CONFIDENCE) / 2


class CandidateRow(NamedTuple):
    """One candidate on development queries it was not fitted on; None where it has no such number.

    `gain` is its PR-AUC minus that of the global score, with a paired bootstrap interval over
    queries. `loss_gain` is Platt's log loss minus its own, per judged hit, and `loss_bound` the
    lower end of a 95 % bound on it that holds for all candidates compared at once.
    """

    name: str
    pr_auc: float
    gain: float
    gain_low: float
    gain_high: float
    precision_at_r95: float
    log_loss: float | None
    loss_gain: float | None
    loss_bound: float | None
    ece: float | None


def dealt(labelled: LabelledHits, generator: np.random.Generator) -> np.ndarray:
    """A random order in which queries with and without relevant hits alternate evenly."""
    queries = labelled.hits.queries
    position = np.empty(queries)
    has = labelled.relevant_per_query > 0
    for stratum in (np.flatnonzero(has), np.flatnonzero(~has)):
        spots = (np.arange(len(stratum)) + 0.5) / max(1, len(stratum))
        position[generator.permutation(stratum)] = spots
    return np.argsort(position, kind="stable")


def deal_folds(labelled: LabelledHits, folds: int, seed: int) -> np.ndarray:
    """The fold of each query, int [Q]; folds share the queries with relevant hits evenly."""
    order = dealt(labelled, np.random.default_rng(seed + 1))
    fold_of_query = np.empty(len(order), int)
    fold_of_query[order] = np.arange(len(order)) % folds
    return fold_of_query


def cross_validate(
    labelled: LabelledHits,
    names: Sequence[str],
    fold_of_query: np.ndarray,
    settings: AdapterSettings,
    seed: int,
) -> dict[str, np.ndarray]:
    """Values (float64 [P]) of every candidate on queries it was not fitted on."""
    from tqdm import tqdm

    folds = int(fold_of_query.max()) + 1
    fold_of_hit = fold_of_query[labelled.hits.query_of_hit]
    found = {name: np.empty(len(labelled.labels)) for name in names}
    steps = [(fold, name) for fold in range(folds) for name in names]
    for fold, name in tqdm(steps, desc="fit", unit="fit", disable=None, file=sys.stderr):
        training = labelled.select(np.flatnonzero(fold_of_query != fold))
        classes = set(training.labels[training.judged].tolist())
        if classes != {0, 1}:
            word = "irrelevant" if classes == {1} else "relevant"
            raise ValueError(
                f"without fold {fold + 1} of {folds} no {word} hit is left to learn from; "
                "label more queries or use fewer folds"
            )
        tested = labelled.select(np.flatnonzero(fold_of_query == fold))
        scorer = fit_candidate(name, training, settings, seed)
        found[name][fold_of_hit == fold] = scorer.values(tested.hits)
    return found


def compare(
    labelled: LabelledHits, out_of_fold: dict[str, np.ndarray], fold_of_query: np.ndarray, seed: int
) -> list[CandidateRow]:
    """A row per candidate: PR-AUC, log loss, their gains with bootstrap bounds, calibration.

    Curves are measured inside each fold and averaged: values of different folds come from
    different fits, and pooling them would charge a candidate for differences that no filter in
    use ever sees.

    Many candidates are compared and the best is taken, so each one's own interval flatters it.
    `loss_bound` corrects that by the studentised maximum over candidates (single-step max-T).
    """
    weights = bootstrap_weights(labelled.hits.queries, _SAMPLES, seed + 2)
    one = np.ones((1, labelled.hits.queries))
    whole = {n: curves_by_part(v, labelled, fold_of_query, one) for n, v in out_of_fold.items()}
    sampled = {
        n: curves_by_part(v, labelled, fold_of_query, weights, ())["PR-AUC"]
        for n, v in out_of_fold.items()
    }
    probabilities = {n: sigmoid(v) for n, v in out_of_fold.items() if n != GLOBAL}
    losses = {n: log_losses(p, labelled) for n, p in probabilities.items()}
    bounds = _simultaneous_bounds(
        {n: losses[PLATT] - loss for n, loss in losses.items() if n not in (PLATT, ISOTONIC)},
        weights,
    )
    judged = int(labelled.judged.sum())
    rows = []
    for name in out_of_fold:
        low, high = np.nanquantile(sampled[name] - sampled[GLOBAL], (_TAIL, 1 - _TAIL))
        loss = float(losses[name].sum()) / judged if name in losses else None
        rows.append(
            CandidateRow(
                name=name,
                pr_auc=float(whole[name]["PR-AUC"][0]),
                gain=float(whole[name]["PR-AUC"][0] - whole[GLOBAL]["PR-AUC"][0]),
                gain_low=float(low),
                gain_high=float(high),
                precision_at_r95=float(whole[name]["P@R95"][0]),
                log_loss=loss,
                loss_gain=None if loss is None else float(losses[PLATT].sum()) / judged - loss,
                loss_bound=bounds[name] / judged if name in bounds else None,
                ece=(
                    expected_calibration_error(probabilities[name], labelled)
                    if name in probabilities
                    else None
                ),
            )
        )
    return rows


def _simultaneous_bounds(gains: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, float]:
    """Lower 95 % bounds on the sums of per-query gains (float [Q]) that hold for all at once."""
    if not gains:
        return {}
    total = {n: float(gain.sum()) for n, gain in gains.items()}
    sampled = {n: weights @ gain for n, gain in gains.items()}
    error = {n: max(float(s.std(ddof=1)), 1e-12) for n, s in sampled.items()}
    largest = np.max([(sampled[n] - total[n]) / error[n] for n in gains], axis=0)
    reach = float(np.quantile(largest, _CONFIDENCE))
    return {n: total[n] - reach * error[n] for n in gains}


def choose(
    rows: Sequence[CandidateRow],
    labelled: LabelledHits,
    out_of_fold: dict[str, np.ndarray],
    seed: int,
) -> tuple[str, str]:
    """The candidate to keep, and why in words.

    The highest PR-AUC among those that are above the global score in it and whose log loss beats
    Platt's calibration of that score beyond noise. Log loss decides what is noise: one proper
    score per query, paired, tells candidates apart on far fewer queries than a pooled PR-AUC.
    Without such a candidate, the global score itself under Platt's calibration, or under isotonic
    regression where its log loss is lower with a paired interval that excludes 0.
    """
    better = [r for r in rows if r.loss_bound is not None and r.loss_bound > 0 and r.gain > 0]
    if better:
        best = max(better, key=lambda row: (row.pr_auc, row.name))
        return best.name, (
            f"its PR-AUC is above the global score's by {best.gain:.4f} and its log loss below "
            f"Platt's by {best.loss_gain:.4f}, at least {best.loss_bound:.4f} with 95 % "
            "confidence corrected for comparing many"
        )
    reason = "no candidate does better than the global score beyond noise"
    if ISOTONIC in out_of_fold:
        weights = bootstrap_weights(labelled.hits.queries, _SAMPLES, seed + 3)
        lost = [log_losses(sigmoid(out_of_fold[n]), labelled) for n in (PLATT, ISOTONIC)]
        if np.quantile(weights @ (lost[0] - lost[1]), _TAIL) > 0:
            return ISOTONIC, f"{reason}, and isotonic regression calibrates it better than Platt"
    return PLATT, f"{reason}; Platt's calibration keeps its order and gives probabilities"
