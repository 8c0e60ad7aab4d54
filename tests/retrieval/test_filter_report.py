import json
from xml.etree import ElementTree

import numpy as np
import pytest

from retrieval.adapter.filters import ThresholdFilter, threshold_filter
from retrieval.adapter.hits import LabelledHits, pack_labelled
from retrieval.adapter.measures import CUT_MEASURES
from retrieval.adapter.scorers import Platt
from retrieval.filter_report import CURVES, Method, filter_methods, measure_filters
from retrieval.filter_report_plot import plot_filters


def _labelled(queries: int = 80, seed: int = 0) -> LabelledHits:
    generator = np.random.default_rng(seed)
    scores, labels = [], []
    for _ in range(queries):
        size = int(generator.integers(2, 15))
        x = np.sort(generator.random(size).astype(np.float32))[::-1]
        scores.append(x)
        labels.append((generator.random(size) < x * generator.choice([0, 1])).astype(np.int8))
    return pack_labelled(None, scores, labels)


def _report(labelled: LabelledHits, labels: str = "qrels", **options):
    chosen = ThresholdFilter(Platt(5.0, -2.5), 0.0, "e")
    return measure_filters(
        labelled, filter_methods(chosen, labelled.hits), labels=labels, **options
    )


def test_numbers_are_those_counted_hit_by_hit():
    labelled = _labelled()
    row = _report(labelled).rows[-1]
    relevant = nulled = wrongly = kept_relevant = cut = 0
    parts = zip(
        labelled.hits.split(labelled.hits.scores), labelled.hits.split(labelled.labels), strict=True
    )
    can_lose = 0
    for scores, labels in parts:
        stays = [5.0 * float(x) - 2.5 >= 0 for x in scores]
        relevant += int(labels.sum())
        kept_relevant += sum(int(s and one) for s, one in zip(stays, labels, strict=True))
        cut += len(stays) - sum(stays)
        nulled += not any(stays)
        can_lose += bool(labels.any())
        wrongly += not any(stays) and bool(labels.any())
    found = {name: estimate.value for name, estimate in row.measures.items()}
    assert found["recall"] == pytest.approx(kept_relevant / relevant)
    assert found["filtered"] == pytest.approx(cut / len(labelled.labels))
    assert found["null"] == pytest.approx(nulled / 80)
    assert found["wrongly nulled"] == pytest.approx(wrongly / can_lose)
    assert set(found) == {*CURVES, *CUT_MEASURES}


def test_intervals_hold_the_value_and_gains_of_the_same_order_are_zero():
    """Platt's values rise with the score: every sample's PR-AUC is that of the global score."""
    report = _report(_labelled())
    ours = report.rows[-1]
    for estimate in ours.measures.values():
        assert estimate.low <= estimate.value <= estimate.high
    assert tuple(ours.gains["PR-AUC"]) == (0, 0, 0)
    assert not ours.gains["PR-AUC"].excludes_zero
    gap = next(row for row in report.rows if row.name == "max-gap")
    assert gap.gains["PR-AUC"].high < 0
    assert gap.gains["PR-AUC"].excludes_zero


def test_plain_cuts_stand_at_their_recorded_thresholds_or_keep_as_many():
    labelled = _labelled()
    record = {"baseline_thresholds": {"global": 0.4, "max-norm": 0.5, "top-k": -2.0}}
    methods = {
        m.name: m
        for m in filter_methods(ThresholdFilter(Platt(1, 0), 0.5, "e", record), labelled.hits)
    }
    assert list(methods) == ["global", "max-norm", "top-k", "max-gap", "filter"]
    np.testing.assert_array_equal(methods["global"].kept, labelled.hits.scores >= 0.4)
    np.testing.assert_array_equal(methods["top-k"].kept, labelled.hits.rank_of_hit < 2)
    by_hand = filter_methods(threshold_filter(0.6), labelled.hits)
    np.testing.assert_array_equal(by_hand[0].kept, by_hand[-1].kept)
    assert by_hand[1].kept.sum() >= by_hand[-1].kept.sum()


def test_table_and_json_say_everything():
    report = _report(_labelled(), notes=["a note"])
    table = report.table()
    for word in (*CURVES, *CUT_MEASURES, "ECE", "kept k", "a note", "labels: qrels", "max-gap"):
        assert word in table
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert found["pseudo_labels"] is False
    assert found["reference"] == "global"
    assert [m["name"] for m in found["methods"]][-1] == "filter"


def test_what_cannot_be_measured_is_null_not_nan():
    labels = [np.array([1, 0], np.int8)] * 5
    labelled = pack_labelled(None, [np.array([0.9, 0.1], np.float32)] * 5, labels)
    report = _report(labelled)
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert found["methods"][0]["measures"]["rightly nulled"] == [None, None, None]
    assert " - " in report.table()


@pytest.mark.parametrize("source", ["pseudo:known-item", "pseudo:judge"])
def test_pseudo_labels_are_marked_in_table_json_and_plot(source, tmp_path):
    labelled = _labelled()
    report = _report(labelled, source)
    assert report.table().startswith(f"PSEUDO-LABELS ({source})")
    assert report.to_json()["pseudo_labels"] is True
    methods = filter_methods(threshold_filter(0.5), labelled.hits)
    plot_filters(labelled, methods, tmp_path / "p.svg", title="x", labels=source)
    # matplotlib writes text as paths, and the text itself beside them as a comment.
    assert f"PSEUDO-LABELS ({source})" in (tmp_path / "p.svg").read_text(encoding="utf-8")


def test_the_plot_is_an_svg_and_the_same_every_time(tmp_path):
    labelled = _labelled()
    methods = filter_methods(ThresholdFilter(Platt(5.0, -2.5), 0.0, "e"), labelled.hits)
    for name in ("a.svg", "deep/b.svg"):
        plot_filters(labelled, methods, tmp_path / name, title="a corpus", labels="qrels")
    first, second = ((tmp_path / n).read_bytes() for n in ("a.svg", "deep/b.svg"))
    assert first == second
    root = ElementTree.fromstring(first)
    assert root.tag.endswith("svg")
    assert b"PSEUDO" not in first
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.svg"]


def test_a_filter_that_keeps_nothing_can_be_measured_and_drawn(tmp_path):
    labelled = _labelled()
    nothing = Method("none", labelled.hits.scores, np.zeros(len(labelled.labels), bool))
    report = measure_filters(labelled, [nothing], labels="qrels")
    assert report.rows[0].measures["null"].value == 1
    assert np.isnan(report.rows[0].measures["precision"].value)
    plot_filters(labelled, [nothing], tmp_path / "n.svg", title="none", labels="qrels")
