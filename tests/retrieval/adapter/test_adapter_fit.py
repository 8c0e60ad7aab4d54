import json

import numpy as np
import pytest

from retrieval.adapter.candidates import fit_candidate
from retrieval.adapter.compare import CandidateRow, choose, compare, deal_folds
from retrieval.adapter.filters import kept, load_filter
from retrieval.adapter.fit import KNOWN_ITEM, fit, split_queries
from retrieval.adapter.hits import LabelledHits, pack_labelled
from retrieval.adapter.measures import curve_measures
from retrieval.adapter.network import AdapterSettings
from retrieval.adapter.scorers import GlobalScore
from retrieval.calibration import ByHand, RecallTarget, RiskControl, recall_losses

QUICK = AdapterSettings(hidden=16, members=3, epochs=25, patience=5)


def _planted(
    queries: int, shift_size: float, seed: int, d: int = 32
) -> tuple[LabelledHits, np.ndarray]:
    """Cosines shifted query by query, linearly in the embedding; also what an oracle would cut."""
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(queries, d))
    shift = embeddings @ np.random.default_rng(99).normal(size=d) / np.sqrt(d)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    relevant = generator.random((queries, 15)) < 0.3
    clean = 0.4 + 0.15 * relevant + 0.05 * generator.normal(size=relevant.shape)
    order = np.argsort(-clean, axis=1)
    clean = np.take_along_axis(clean, order, axis=1)
    labels = np.take_along_axis(relevant, order, axis=1).astype(np.int8)
    scores = (clean + shift_size * shift[:, None]).astype(np.float32)
    return pack_labelled(embeddings.astype(np.float32), list(scores), list(labels)), clean.ravel()


def _fit(labelled: LabelledHits, **options):
    hits = labelled.hits
    return fit(
        hits.embeddings,
        hits.split(hits.scores),
        hits.split(labelled.labels),
        encoder_fingerprint="encoder@1",
        **{"settings": QUICK, "folds": 3, **options},
    )


def _pr_auc(values: np.ndarray, labelled: LabelledHits) -> float:
    return float(curve_measures(values, labelled, np.ones((1, labelled.hits.queries)))["PR-AUC"][0])


@pytest.mark.parametrize("inputs", ["embedding", "profile", "both"])
def test_a_planted_shift_is_found_from_a_thousand_queries(inputs):
    """At least 65 % of the gap between the global threshold and the oracle, on fresh queries."""
    training, _ = _planted(1000, 0.08, seed=1)
    fresh, clean = _planted(500, 0.08, seed=2)
    scorer = fit_candidate(
        f"adapter:linear:{inputs}", training, AdapterSettings(members=2, epochs=40), 0
    )
    low, high = _pr_auc(fresh.hits.scores, fresh), _pr_auc(clean, fresh)
    assert high - low > 0.1
    assert (_pr_auc(scorer.values(fresh.hits), fresh) - low) / (high - low) >= 0.65


def test_fit_keeps_an_adapter_where_queries_are_shifted_and_says_why():
    labelled, _ = _planted(400, 0.08, seed=3)
    report = _fit(labelled, candidates=["adapter:linear:both", "isotonic"])
    assert report.chosen == "adapter:linear:both"
    assert "above the global score's by" in report.why
    chosen = next(row for row in report.rows if row.name == report.chosen)
    assert chosen.loss_bound is not None
    assert chosen.loss_gain is not None
    assert 0 < chosen.loss_bound < chosen.loss_gain
    assert chosen.gain_low > 0
    assert [row.name for row in report.rows][:2] == ["global", "platt"]
    assert report.filter.needs_embeddings
    assert report.filter.needed_hits == QUICK.depth
    assert report.chosen in report.table()


def test_fit_keeps_the_global_order_where_there_is_nothing_to_find():
    labelled, _ = _planted(150, 0.0, seed=4)
    report = _fit(labelled, candidates=["adapter:linear:both", "adapter:sqrt:profile", "isotonic"])
    assert report.chosen in ("platt", "isotonic")
    assert "beyond noise" in report.why
    values = report.filter.scorer.values(labelled.hits)
    assert _pr_auc(values, labelled) >= _pr_auc(labelled.hits.scores, labelled) - 0.01


def test_platt_never_differs_from_the_global_score_in_its_order():
    """Fold by fold it is a rising map of it; pooled over folds it would seem to lose."""
    labelled, _ = _planted(90, 0.05, seed=5)
    report = _fit(labelled, candidates=["isotonic"])
    platt = next(row for row in report.rows if row.name == "platt")
    assert platt.gain == platt.gain_low == platt.gain_high == 0


@pytest.mark.slow
def test_comparing_many_candidates_of_pure_noise_keeps_none():
    """Fifteen candidates, each Platt plus a random shift a query: the best looks good by luck."""
    labelled, _ = _planted(60, 0.0, seed=6)
    platt = fit_candidate("platt", labelled, QUICK, 0).values(labelled.hits)
    taken, flattered = 0, 0
    for trial in range(10):
        generator = np.random.default_rng(trial)
        found = {"global": labelled.hits.scores.astype(np.float64), "platt": platt}
        for number in range(15):
            noise = 0.02 * generator.normal(size=labelled.hits.queries)
            found[f"noise {number}"] = platt + noise[labelled.hits.query_of_hit]
        rows = compare(labelled, found, np.zeros(60, int), seed=trial)
        taken += choose(rows, labelled, found, seed=trial)[0] != "platt"
        flattered += any((row.loss_gain or 0) > 0 and row.gain > 0 for row in rows)
    assert flattered >= 7
    assert taken <= 1


def test_the_best_of_those_beyond_noise_is_chosen():
    def row(name: str, gain: float, bound: float | None) -> CandidateRow:
        return CandidateRow(name, 0.5 + gain, gain, 0.0, 0.0, 0.0, 0.6, 0.01, bound, None)

    rows = [
        row("global", 0.0, None),
        row("best looking, but noise", 0.2, -0.01),
        row("good", 0.1, 0.01),
        row("better calibrated, worse order", -0.01, 0.05),
        row("a little", 0.05, 0.04),
    ]
    labelled, _ = _planted(10, 0.0, seed=7)
    assert choose(rows, labelled, {}, seed=0)[0] == "good"


@pytest.mark.parametrize("target", [0.8, 0.95, 1.0])
def test_recall_on_the_calibration_queries_is_never_under_target(target):
    labelled, _ = _planted(120, 0.05, seed=8)
    report = _fit(labelled, threshold=RecallTarget(target), candidates=["adapter:power:both"])
    _, calibration = split_queries(labelled, 3, 0.3, RecallTarget(target), seed=0)
    masks = report.filter.keep(
        calibration.hits.embeddings, calibration.hits.split(calibration.hits.scores)
    )
    marks = calibration.hits.split(calibration.labels)
    stayed = sum(int((m & (one == 1)).sum()) for m, one in zip(masks, marks, strict=True))
    total = sum(int((one == 1).sum()) for one in marks)
    assert stayed / total >= target
    assert report.calibration["recall"] == stayed / total
    assert report.calibration_queries == len(masks)
    assert set(report.filter.record["calibration_query_ids"]) == set(calibration.query_ids)


def test_risk_control_bounds_the_loss_on_fresh_queries():
    """Threshold and map come from separate queries, so the promise survives the fitting."""
    training, _ = _planted(400, 0.08, seed=9)
    fresh, _ = _planted(800, 0.08, seed=10)
    report = _fit(training, threshold=RiskControl(0.1), candidates=["adapter:linear:both"])
    values = report.filter.scorer.values(fresh.hits)
    loss = np.nanmean(recall_losses(kept(values, report.filter.threshold), fresh))
    assert 0.02 < loss < 0.14
    assert "on average over queries" in report.table()


def test_a_threshold_by_hand_sets_no_queries_aside():
    labelled, _ = _planted(60, 0.0, seed=11)
    report = _fit(labelled, threshold=ByHand(0.5), candidates=["isotonic"])
    assert report.development_queries == report.calibration_queries == 60
    (p,) = report.filter.calibrated(None, [labelled.hits.scores[:15]])
    (mask,) = report.filter.keep(None, [labelled.hits.scores[:15]])
    np.testing.assert_array_equal(mask, p >= 0.5)


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_reranker_scores_are_calibrated_like_cosines(scale):
    """Any real score: the same data stretched and moved gives the same decisions."""
    labelled, _ = _planted(90, 0.03, seed=12)
    scores = [
        scale * s - (scale - 1) * np.float32(0.5) for s in labelled.hits.split(labelled.hits.scores)
    ]
    report = fit(
        None,
        scores,
        labelled.hits.split(labelled.labels),
        encoder_fingerprint="reranker@1",
        folds=3,
        settings=QUICK,
        candidates=["max-norm", "isotonic", "adapter:linear:profile"],
    )
    assert not report.filter.needs_embeddings
    assert report.calibration["recall"] >= 0.95
    probabilities = np.concatenate(report.filter.calibrated(None, scores))
    assert probabilities.mean() == pytest.approx((labelled.labels == 1).mean(), abs=0.04)


def test_queries_with_and_without_relevant_hits_are_dealt_evenly():
    labelled, _ = _planted(100, 0.0, seed=13)
    labels = labelled.labels.copy()
    labels[labelled.hits.query_of_hit >= 40] = 0
    labelled = labelled._replace(labels=labels)
    development, calibration = split_queries(labelled, 5, 0.3, RecallTarget(0.9), seed=0)
    assert development.hits.queries == 70
    assert calibration.hits.queries == 30
    assert not set(development.query_ids) & set(calibration.query_ids)
    assert abs(int((calibration.relevant_per_query > 0).sum()) - 12) <= 1
    folds = deal_folds(labelled, 5, seed=0)
    assert np.bincount(folds).tolist() == [20] * 5
    with_relevant = np.bincount(folds[labelled.relevant_per_query > 0])
    assert with_relevant.min() >= 7


def test_pseudo_labels_are_marked_in_table_json_and_on_disk(tmp_path):
    labelled, _ = _planted(60, 0.0, seed=14)
    report = _fit(labelled, candidates=["isotonic"], label_source=KNOWN_ITEM)
    assert report.table().startswith("PSEUDO-LABELS (pseudo:known-item)")
    assert report.to_json()["pseudo_labels"] is True
    report.filter.save(tmp_path)
    on_disk = json.loads((tmp_path / "filter.json").read_text(encoding="utf-8"))
    assert (on_disk["labels"], on_disk["pseudo_labels"]) == ("pseudo:known-item", True)
    loaded = load_filter(tmp_path, "encoder@1")
    assert loaded.record == json.loads(json.dumps(report.filter.record))
    real = _fit(labelled, candidates=["isotonic"])
    assert real.to_json()["pseudo_labels"] is False
    assert "PSEUDO" not in real.table()


def test_the_same_seed_gives_the_same_filter():
    labelled, _ = _planted(80, 0.05, seed=15)
    reports = [_fit(labelled, candidates=["adapter:linear:both"], seed=3) for _ in range(2)]
    assert reports[0].to_json() == reports[1].to_json()


def test_bad_input_to_fit_gets_one_sentence():
    labelled, _ = _planted(30, 0.0, seed=16)
    hits = labelled.hits
    scores, labels = hits.split(hits.scores), hits.split(labelled.labels)

    def attempt(message: str, some_scores=scores, some_labels=labels, **options) -> None:
        with pytest.raises(ValueError, match=message):
            fit(None, some_scores, some_labels, encoder_fingerprint="e", settings=QUICK, **options)

    attempt(
        "one class only: no hit is irrelevant", some_labels=[np.ones_like(one) for one in labels]
    )
    attempt(
        "one class only: no hit is relevant", some_labels=[np.zeros_like(one) for one in labels]
    )
    attempt("4 labelled queries are too few: 1 are set aside", scores[:4], labels[:4])
    attempt("score nan at rank 1 of query number 1", [scores[0] * np.nan, *scores[1:]])
    attempt("'30' .* has no hits", [*scores[:-1], scores[0][:0]], [*labels[:-1], labels[0][:0]])
    attempt("label source 'guess' is not one of qrels", label_source="guess")
    attempt("at least 2 folds, not 1", folds=1)
    attempt("share of calibration queries must lie between 0 and 1", calibration_share=1.0)
    attempt(r"cannot promise a risk of 0\.01", threshold=RiskControl(0.01), candidates=["isotonic"])
    lonely = [np.zeros_like(one) for one in labels]
    lonely[0][0] = 1
    attempt("no relevant hit is left to learn from|no calibration query has", some_labels=lonely)


def test_the_global_score_is_the_reference_row():
    labelled, _ = _planted(60, 0.0, seed=17)
    report = _fit(labelled, candidates=["isotonic"])
    first = report.rows[0]
    assert (first.name, first.gain, first.log_loss) == ("global", 0.0, None)
    values = GlobalScore().values(labelled.hits)
    assert first.pr_auc == pytest.approx(_pr_auc(values, labelled), abs=0.1)
