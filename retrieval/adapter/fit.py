"""Fit a relevance filter: compare the candidates by cross-validation and keep the best.

Enters: query embeddings (or None), each query's descending scores and labels. Leaves: a
`FitReport` with the filter, how every candidate did, which one was kept and why.

    report = fit(embeddings, scores, labels, encoder_fingerprint=retriever.encoder_fingerprint)
    report.filter.save(index / "filter")

Queries are split once: candidates are compared and fitted on the development queries, and the
threshold is chosen on calibration queries that no fit has seen, which is what conformal risk
control asks for.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from retrieval.adapter.candidates import fit_candidate, usable_candidates
from retrieval.adapter.compare import (
    CandidateRow,
    choose,
    compare,
    cross_validate,
    deal_folds,
    dealt,
)
from retrieval.adapter.filters import ThresholdFilter, kept
from retrieval.adapter.hits import LabelledHits, pack_labelled
from retrieval.adapter.measures import cut_counts, cut_measures
from retrieval.adapter.network import AdapterSettings
from retrieval.adapter.scorers import PLAIN_SCORERS
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
# A threshold needs no more: 200 queries put a conformal bound within half a percent of its level.
_MOST_CALIBRATION_QUERIES = 200


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
    order = dealt(labelled, np.random.default_rng(seed))
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


def baseline_thresholds(calibration: LabelledHits, recall: float) -> dict[str, float]:
    """Thresholds of the plain cuts that reach the same recall on the same calibration queries."""
    found = {}
    if recall > 0:
        for name in ("global", "max-norm", "top-k"):
            values = PLAIN_SCORERS[name].values(calibration.hits)
            found[name] = threshold_for_recall(values, calibration, recall)
    return found


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "scikit-learn", "torch")}
