"""Fit a relevance filter: compare the candidates by cross-validation and keep the best.

Enters: query embeddings (or None), each query's descending scores and labels. Leaves: a
`FitReport` with the filter, how every candidate did, which one was kept and why.

    report = fit(embeddings, scores, labels, encoder_fingerprint=retriever.encoder_fingerprint)
    report.filter.save(index / "filter")

Queries are split once: candidates are compared and fitted on the development queries, and the
threshold is chosen on calibration queries that no fit has seen, which is what conformal risk
control asks for.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from retrieval.adapter.candidates import (
    GLOBAL,
    ISOTONIC,
    PLATT,
    fit_candidate,
    usable_candidates,
)
from retrieval.adapter.filters import ThresholdFilter, kept
from retrieval.adapter.hits import LabelledHits, pack_labelled
from retrieval.adapter.measures import (
    bootstrap_weights,
    curves_by_part,
    cut_counts,
    cut_measures,
    expected_calibration_error,
    log_losses,
)
from retrieval.adapter.network import AdapterSettings
from retrieval.adapter.scorers import PLAIN_SCORERS, sigmoid
from retrieval.calibration import (
    ByHand,
    RecallTarget,
    ThresholdRule,
    choose_threshold,
    rule_state,
    threshold_for_recall,
)

QRELS = "qrels"
KNOWN_ITEM = "pseudo:known-item"
JUDGE = "pseudo:judge"
LABEL_SOURCES = (QRELS, KNOWN_ITEM, JUDGE)
_SAMPLES = 1000
_CONFIDENCE = 0.95
_TAIL = (1 - _CONFIDENCE) / 2
# A threshold needs no more: 200 queries put a conformal bound within half a percent of its level.
_MOST_CALIBRATION_QUERIES = 200


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


@dataclass(frozen=True)
class FitReport:
    """The filter, the comparison behind it, and the check of its threshold."""

    filter: ThresholdFilter
    rows: tuple[CandidateRow, ...]
    chosen: str
    why: str
    labels: str
    development_queries: int
    calibration_queries: int
    threshold_rule: dict[str, Any]
    # The cut on the calibration queries, counted hit by hit.
    calibration: dict[str, float | None]

    @property
    def is_pseudo(self) -> bool:
        """Whether the labels are pseudo-labels, not human judgements."""
        return self.labels != QRELS

    def to_json(self) -> dict[str, Any]:
        """Everything but the filter's weights."""
        return {
            "labels": self.labels,
            "pseudo_labels": self.is_pseudo,
            "chosen": self.chosen,
            "why": self.why,
            "development_queries": self.development_queries,
            "calibration_queries": self.calibration_queries,
            "threshold": self.filter.threshold,
            "threshold_rule": self.threshold_rule,
            "calibration": self.calibration,
            "candidates": [row._asdict() for row in self.rows],
        }

    def table(self) -> str:
        """The comparison and the choice, for people."""
        source = f"PSEUDO-LABELS ({self.labels})" if self.is_pseudo else "labels: qrels"
        lines = [
            f"{source}; {self.development_queries} development queries, cross-validated",
            f"{'candidate':<28} {'PR-AUC':>7} {'gain over global':>26} {'P@R95':>7} "
            f"{'log loss':>9} {'gain (bound) over Platt':>24} {'ECE':>6}",
        ]
        for row in self.rows:
            gain = f"{row.gain:+.4f} [{row.gain_low:+.4f}, {row.gain_high:+.4f}]"
            loss, loss_gain, ece = (
                "-" if number is None else f"{number:{form}}"
                for number, form in (
                    (row.log_loss, ".4f"),
                    (row.loss_gain, "+.4f"),
                    (row.ece, ".3f"),
                )
            )
            bound = "" if row.loss_bound is None else f" ({row.loss_bound:+.4f})"
            mark = "*" if row.name == self.chosen else " "
            lines.append(
                f"{mark}{row.name:<27} {row.pr_auc:>7.4f} {gain:>26} {row.precision_at_r95:>7.4f} "
                f"{loss:>9} {loss_gain + bound:>24} {ece:>6}"
            )
        check = self.calibration
        lines += [
            f"kept: {self.chosen}, because {self.why}",
            f"threshold: {self.threshold_rule['meaning']}; value {self.filter.threshold:.6g}",
            f"on {self.calibration_queries} calibration queries: "
            + ", ".join(f"{n} {v:.1%}" for n, v in check.items() if v is not None),
        ]
        return "\n".join(lines)


def fit(
    embeddings: np.ndarray | None,
    hit_scores: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    *,
    encoder_fingerprint: str,
    query_ids: Sequence[str] | None = None,
    threshold: ThresholdRule = RecallTarget(0.95),  # noqa: B008  a frozen value
    candidates: Sequence[str] | None = None,
    folds: int = 5,
    calibration_share: float = 0.3,
    label_source: str = QRELS,
    settings: AdapterSettings | None = None,
    seed: int = 0,
) -> FitReport:
    """Fit a filter on the hits of Q labelled queries.

    `embeddings` are float32 [Q, d] or None (then no candidate reads them); `hit_scores` hold each
    query's descending scores, of any model and scale; `labels` 1, 0 or -1 (unjudged) for each.
    `encoder_fingerprint` names the model whose scores these are; `label_source` is `qrels`,
    `pseudo:known-item` or `pseudo:judge` and stays with the filter.

    Raises `ValueError` for bad scores or labels, for fewer queries than `folds` on either side of
    the split, and for a risk that so few calibration queries cannot promise.
    """
    labelled = pack_labelled(embeddings, hit_scores, labels, query_ids)
    if label_source not in LABEL_SOURCES:
        raise ValueError(f"label source {label_source!r} is not one of {', '.join(LABEL_SOURCES)}")
    names = usable_candidates(tuple(candidates or ()) or None, embeddings is not None)
    settings = settings or AdapterSettings()
    development, calibration = split_queries(labelled, folds, calibration_share, threshold, seed)

    fold_of_query = deal_folds(development, folds, seed)
    out_of_fold = cross_validate(development, names, fold_of_query, settings, seed)
    rows = compare(development, out_of_fold, fold_of_query, seed)
    chosen, why = choose(rows, development, out_of_fold, seed)
    scorer = fit_candidate(chosen, development, settings, seed)

    values = scorer.values(calibration.hits)
    cut = choose_threshold(
        threshold, values, calibration, values_are_logits=scorer.has_probabilities
    )
    one = np.ones((1, calibration.hits.queries))
    check = cut_measures(cut_counts(kept(values, cut), calibration), one)
    # JSON has no NaN: a share of nothing is None.
    measured = {n: None if np.isnan(v[0]) else float(v[0]) for n, v in check.items()}
    record = {
        "candidate": chosen,
        "why": why,
        "labels": label_source,
        "pseudo_labels": label_source != QRELS,
        "threshold_rule": rule_state(threshold),
        "calibration": measured,
        "baseline_thresholds": baseline_thresholds(calibration, measured["recall"] or 0.0),
        "seed": seed,
        "folds": folds,
        "settings": asdict(settings),
        "versions": _versions(),
        "development_query_ids": list(development.query_ids),
        "calibration_query_ids": list(calibration.query_ids),
        "candidates": [row._asdict() for row in rows],
    }
    return FitReport(
        filter=ThresholdFilter(scorer, cut, encoder_fingerprint, record),
        rows=tuple(rows),
        chosen=chosen,
        why=why,
        labels=label_source,
        development_queries=development.hits.queries,
        calibration_queries=calibration.hits.queries,
        threshold_rule=rule_state(threshold),
        calibration=measured,
    )


def split_queries(
    labelled: LabelledHits, folds: int, share: float, rule: ThresholdRule, seed: int
) -> tuple[LabelledHits, LabelledHits]:
    """Development and calibration queries, each with its part of those that have relevant hits.

    A threshold by hand needs no calibration queries: then both are everything.
    """
    if folds < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, not {folds}")
    if not 0 < share < 1:
        raise ValueError(f"the share of calibration queries must lie between 0 and 1, not {share}")
    queries = labelled.hits.queries
    order = _dealt(labelled, np.random.default_rng(seed))
    set_aside = (
        0
        if isinstance(rule, ByHand)
        else max(1, min(round(share * queries), _MOST_CALIBRATION_QUERIES))
    )
    if queries - set_aside < folds:
        raise ValueError(
            f"{queries} labelled queries are too few: {set_aside} are set aside for the threshold "
            f"and the rest must fill {folds} folds; label more queries or use fewer folds"
        )
    if not set_aside:
        return labelled, labelled
    # Evenly spaced positions of an order that alternates the strata give each side its part.
    aside = np.zeros(queries, bool)
    aside[(np.arange(set_aside) * queries) // set_aside] = True
    return labelled.select(np.sort(order[~aside])), labelled.select(np.sort(order[aside]))


def deal_folds(labelled: LabelledHits, folds: int, seed: int) -> np.ndarray:
    """The fold of each query, int [Q]; folds share the queries with relevant hits evenly."""
    order = _dealt(labelled, np.random.default_rng(seed + 1))
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


def baseline_thresholds(calibration: LabelledHits, recall: float) -> dict[str, float]:
    """Thresholds of the plain cuts that reach the same recall on the same calibration queries."""
    found = {}
    if recall > 0:
        for name in ("global", "max-norm", "top-k"):
            values = PLAIN_SCORERS[name].values(calibration.hits)
            found[name] = threshold_for_recall(values, calibration, recall)
    return found


def _dealt(labelled: LabelledHits, generator: np.random.Generator) -> np.ndarray:
    """A random order in which queries with and without relevant hits alternate evenly."""
    queries = labelled.hits.queries
    position = np.empty(queries)
    has = labelled.relevant_per_query > 0
    for stratum in (np.flatnonzero(has), np.flatnonzero(~has)):
        spots = (np.arange(len(stratum)) + 0.5) / max(1, len(stratum))
        position[generator.permutation(stratum)] = spots
    return np.argsort(position, kind="stable")


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "scikit-learn", "torch")}
