"""What a filter is judged by: curves over all thresholds, and what one threshold keeps and loses.

Enters: a value per hit, labels and how often each query counts (bootstrap weights). Leaves:
PR-AUC, precision at a recall, log loss, calibration error, and counts of a cut.

    curve_measures(values, labelled, ones)["PR-AUC"]
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from retrieval.adapter.hits import LabelledHits, per_query_sum

RECALLS = (0.90, 0.95, 0.99)
# Hits times bootstrap samples handled at once: 32 MB an array in float32.
_CELLS = 8_000_000


def recall_name(recall: float) -> str:
    """`P@R95` for .95."""
    return f"P@R{round(100 * recall)}"


def bootstrap_weights(queries: int, samples: int, seed: int) -> np.ndarray:
    """How often each query is drawn in each bootstrap sample, float32 [samples, Q]."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(queries, np.full(queries, 1 / queries), size=samples).astype(
        np.float32
    )


def curve_measures(
    values: np.ndarray,
    labelled: LabelledHits,
    weights: np.ndarray,
    recalls: Sequence[float] = RECALLS,
) -> dict[str, np.ndarray]:
    """PR-AUC and precision at recall over pooled judged hits, one number per row of `weights`.

    PR-AUC is average precision, sum of (R_i - R_(i-1)) * P_i over distinct values, as scikit-learn
    has it; hits of equal value stand or fall together. `P@R95` is the precision at the highest
    threshold whose recall is at least .95. NaN where a sample holds nothing relevant. Weights are
    how often each query counts: whole numbers.
    """
    judged = labelled.judged
    order = np.flatnonzero(judged)[np.argsort(-values[judged], kind="stable")]
    sorted_values = values[order]
    query = labelled.hits.query_of_hit[order]
    last = np.flatnonzero(np.append(sorted_values[1:] != sorted_values[:-1], True))
    found: dict[str, list[np.ndarray]] = {n: [] for n in ("PR-AUC", *map(recall_name, recalls))}
    # Counts below 2^24 are exact in float32, and sums of them twice as fast.
    number: type[np.floating] = np.float32 if len(order) < 2**21 else np.float64
    relevant = (labelled.labels[order] == 1).astype(number)
    rows = max(1, _CELLS // max(1, len(order)))
    for begin in range(0, len(weights), rows):
        w = weights[begin : begin + rows].astype(number)[:, query]
        true = np.cumsum(w * relevant, axis=1)[:, last]
        kept = np.cumsum(w, axis=1, out=w)[:, last]
        total = true[:, -1].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(kept > 0, true / kept, number(1))
            steps = np.diff(true, axis=1, prepend=number(0))
            area = np.einsum("bi,bi->b", steps, precision, dtype=np.float64, casting="same_kind")
            found["PR-AUC"].append(area / total)
        for recall in recalls:
            wanted = np.ceil(recall * total - 1e-6).astype(number)
            at = precision[np.arange(len(w)), (true >= wanted[:, None]).argmax(axis=1)]
            found[recall_name(recall)].append(np.where(total > 0, at, np.nan))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def curves_by_part(
    values: np.ndarray,
    labelled: LabelledHits,
    part_of_query: np.ndarray,
    weights: np.ndarray,
    recalls: Sequence[float] = RECALLS,
) -> dict[str, np.ndarray]:
    """`curve_measures` inside each part of the queries (int [Q], from 0), averaged over parts.

    For values that come from one fit per part: between parts they share no scale.
    """
    parts = []
    for part in range(int(part_of_query.max()) + 1):
        inside = part_of_query == part
        of_part = values[inside[labelled.hits.query_of_hit]]
        chosen = labelled.select(np.flatnonzero(inside))
        parts.append(curve_measures(of_part, chosen, weights[:, inside], recalls))
    return {name: np.nanmean([part[name] for part in parts], axis=0) for name in parts[0]}


def log_losses(probabilities: np.ndarray, labelled: LabelledHits) -> np.ndarray:
    """Sum of -log p(label) over each query's judged hits, float64 [Q]."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    loss = -np.where(labelled.labels == 1, np.log(p), np.log1p(-p)) * labelled.judged
    return per_query_sum(loss, labelled.hits.offsets)


def calibration_bins(
    probabilities: np.ndarray, labelled: LabelledHits, bins: int = 10
) -> np.ndarray:
    """Mean probability, share relevant and count of each equal-width bin, float64 [bins, 3]."""
    p = probabilities[labelled.judged]
    relevant = labelled.labels[labelled.judged] == 1
    bin_of = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(bin_of, weights=p, minlength=bins) / count
        share = np.bincount(bin_of, weights=relevant, minlength=bins) / count
    return np.stack([mean, share, count], axis=1)


def expected_calibration_error(probabilities: np.ndarray, labelled: LabelledHits) -> float:
    """ECE: |mean probability - share relevant| averaged over 10 bins by their counts."""
    table = calibration_bins(probabilities, labelled)
    used = table[table[:, 2] > 0]
    return float((np.abs(used[:, 0] - used[:, 1]) * used[:, 2]).sum() / used[:, 2].sum())


class Cut(NamedTuple):
    """What one cut did to each query, int64 [Q] each; measures are ratios of weighted sums.

    `judged` and `relevant` count a query's labelled hits, `kept_judged` and `kept_relevant` those
    that stayed, and `kept` all that stayed, labelled or not.
    """

    judged: np.ndarray
    relevant: np.ndarray
    kept_judged: np.ndarray
    kept_relevant: np.ndarray
    kept: np.ndarray


def cut_counts(kept: np.ndarray, labelled: LabelledHits) -> Cut:
    """Count what a mask over all hits (bool [P]) keeps, query by query."""
    offsets, judged, relevant = labelled.hits.offsets, labelled.judged, labelled.labels == 1
    flags = (judged, relevant, kept & judged, kept & relevant, kept)
    return Cut(*(per_query_sum(flag, offsets) for flag in flags))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return top / bottom


CUT_MEASURES: dict[str, Callable[[Cut, np.ndarray], np.ndarray]] = {
    # Each takes a cut and bootstrap weights [B, Q] and gives [B].
    "precision": lambda c, w: _ratio(w @ c.kept_relevant, w @ c.kept_judged),
    "recall": lambda c, w: _ratio(w @ c.kept_relevant, w @ c.relevant),
    "filtered": lambda c, w: 1 - _ratio(w @ c.kept_judged, w @ c.judged),
    "null": lambda c, w: _ratio(w @ (c.kept == 0), w.sum(axis=1)),
    "wrongly nulled": lambda c, w: _ratio(
        w @ ((c.kept == 0) & (c.relevant > 0)), w @ (c.relevant > 0)
    ),
    "rightly nulled": lambda c, w: _ratio(
        w @ ((c.kept == 0) & (c.relevant == 0)), w @ (c.relevant == 0)
    ),
}


def cut_measures(cut: Cut, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every measure of a cut, one number per row of `weights` (float [B, Q]).

    precision, recall: over pooled judged hits; filtered: share of judged hits cut; null: queries
    with nothing kept; wrongly nulled: those among queries that had something relevant; rightly
    nulled: those among queries that had nothing relevant (NaN where there are none).
    """
    return {
        name: measure(cut, weights.astype(np.float64)) for name, measure in CUT_MEASURES.items()
    }


class TokensSaved(NamedTuple):
    """Passage tokens a reranker reads before and after a filter, and the share saved."""

    before: int
    after: int
    share: float


def tokens_saved(kept: Sequence[np.ndarray], tokens: Sequence[np.ndarray]) -> TokensSaved:
    """Reranker tokens saved, from `kept` masks (bool) and token counts (int), one array a query."""
    for number, (mask, counts) in enumerate(zip(kept, tokens, strict=True), 1):
        if len(mask) != len(counts):
            raise ValueError(
                f"query number {number}: {len(mask)} kept flags for {len(counts)} token counts"
            )
    before = int(sum(np.sum(counts) for counts in tokens))
    after = int(
        sum(np.sum(np.asarray(c)[np.asarray(m, bool)]) for m, c in zip(kept, tokens, strict=True))
    )
    return TokensSaved(before, after, 1 - after / before if before else 0.0)
