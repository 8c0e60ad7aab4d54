import math

import numpy as np
import pytest

from rerank.scoring.probability import fit_probability, probabilities


def test_a_known_line_is_found_again():
    generator = np.random.default_rng(0)
    scores = generator.normal(0.3, 0.1, 20_000)
    truth = 1 / (1 + np.exp(-(25 * scores - 9)))
    slope, intercept = fit_probability(scores, generator.random(20_000) < truth)
    assert slope == pytest.approx(25, rel=0.05)
    assert intercept == pytest.approx(-9, rel=0.05)


def test_probabilities_by_hand():
    assert probabilities([0.5, 0.0, -1000.0], (2.0, -1.0)) == pytest.approx(
        [0.5, 1 / (1 + math.e), 0.0]
    )
    assert probabilities([0.5], None) is None


def test_the_map_is_as_good_as_the_filters(monkeypatch):
    """One fitted by the filter's Platt calibration gives the same probabilities."""
    from retrieval.adapter.candidates import fit_candidate
    from retrieval.adapter.hits import label_hits, pack_labelled
    from retrieval.adapter.network import AdapterSettings

    generator = np.random.default_rng(1)
    from index.records import Hit

    lists, qrels = [], {}
    for query in range(30):
        values = np.sort(generator.random(10))[::-1]
        lists.append([Hit(f"p{n}", float(v), n + 1) for n, v in enumerate(values)])
        qrels[f"q{query}"] = {f"p{n}": int(generator.random() < v) for n, v in enumerate(values)}
    names = list(qrels)
    scores, labels = label_hits(lists, names, qrels)
    labelled = pack_labelled(np.zeros((30, 4), np.float32), scores, labels, names)
    platt = fit_candidate("platt", labelled, AdapterSettings(), 0)
    slope, intercept = fit_probability(labelled.hits.scores, labelled.labels == 1)
    assert slope == pytest.approx(platt.slope, rel=1e-4)
    assert intercept == pytest.approx(platt.offset, rel=1e-4)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [True, True], "2 of 2 passages are relevant; a probability needs both kinds"),
        ([], [], "0 of 0 passages are relevant"),
        ([0.5, 0.5], [True, False], "all scores are the same"),
        ([0.1, math.inf], [True, False], "a score is not finite"),
        ([0.1, 0.9, 0.2, 0.8], [True, False, True, False], "higher scores are less relevant"),
        ([0.1], [True, False], "1 scores and 2 labels"),
    ],
)
def test_what_can_not_be_fitted_is_one_sentence(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_probability(scores, labels)
