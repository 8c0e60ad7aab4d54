import numpy as np
import pytest

from rerank.heads.evidence import HeadEvidence
from rerank.heads.selected_settings import select, selected_settings
from rerank.heads.selection import combined, ranked_ndcg, select_heads
from rerank.settings.decoder import DecoderSettings

HEADS = tuple((layer, head) for layer in range(3) for head in range(4))
GOOD = (2, 5)  # rows; (0, 2) and (1, 1)
SETTINGS = DecoderSettings(
    backbone="decoder",
    instruction="{query}",
    passage="{text}",
    query="{query}",
    query_attends=True,
    signal="last",
    score="mass",
)


def _evidence(queries=12, passages=8, prior=0.0, seed=0):
    """Heads of noise, but for two that favour the relevant passages of every other query each."""
    generator = np.random.default_rng(seed)
    found = []
    for query in range(queries):
        grades = np.zeros(passages, int)
        grades[generator.permutation(passages)[:2]] = (1, 2)
        logits = generator.normal(size=(len(HEADS), passages))
        logits[GOOD[query % 2]] += 4 * grades
        liked = prior * generator.normal(size=passages)
        free = np.exp(liked) / np.exp(liked).sum() * np.ones((len(HEADS), 1))
        mass = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        found.append(HeadEvidence((mass + prior * free) / (1 + prior), free, grades))
    return found


@pytest.mark.parametrize("method", ["retrieval", "qk"])
def test_the_good_heads_are_found_and_their_number_is_cross_validated(method):
    found = select_heads(_evidence(), HEADS, method=method, calibration="none")
    assert set(found.heads) == {HEADS[row] for row in GOOD}
    assert list(found.validated) == [1, 2, 4, 8, 12]
    assert found.ndcg == max(found.validated.values()) > 0.9
    assert found.left_out == 0
    assert len(found.scores) == len(found.grades) == 12 * 8


def test_no_more_heads_than_asked_for():
    found = select_heads(_evidence(), HEADS, most=1, calibration="none")
    assert len(found.heads) == 1
    assert list(found.validated) == [1]
    with pytest.raises(ValueError, match="the number of heads is 0, wanted at least 1"):
        select_heads(_evidence(), HEADS, most=0)


def test_a_querys_own_labels_do_not_choose_the_heads_it_is_validated_with():
    """Heads of noise look good on the queries that chose them, and must not on others."""
    generator = np.random.default_rng(0)
    heads = tuple((0, head) for head in range(300))
    evidence = []
    for _ in range(20):
        mass = generator.dirichlet(np.ones(8), size=len(heads))
        evidence.append(HeadEvidence(mass, mass, generator.permutation([1, 1, 0, 0, 0, 0, 0, 0])))
    found = select_heads(evidence, heads, most=1, calibration="none")
    by_chance = np.mean([ranked_ndcg(m, e.grades) for e in evidence for m in e.mass])
    assert found.ratings[0] > by_chance + 0.1
    assert abs(found.ndcg - by_chance) < 0.1


def test_calibration_is_chosen_where_passages_have_a_prior():
    options = {"most": 4, "method": "retrieval", "calibration": None, "seed": 0}
    assert select(_evidence(prior=8.0), HEADS, **options)[0] == "content_free"
    assert select(_evidence(), HEADS, **options)[0] == "none"
    named, _ = select(_evidence(prior=8.0), HEADS, **options | {"calibration": "none"})
    assert named == "none"


def test_queries_that_say_nothing_are_left_out():
    evidence = _evidence()
    for place, grade in ((0, 0), (3, 1)):  # none relevant, all relevant
        evidence[place] = evidence[place]._replace(grades=np.full(8, grade))
    assert select_heads(evidence, HEADS).left_out == 2
    message = "1 of 3 queries have both a relevant passage and another"
    with pytest.raises(ValueError, match=message):
        select_heads([evidence[0], evidence[1], evidence[3]], HEADS)


def test_equal_ratings_are_ordered_by_layer_and_head():
    same = np.tile([[0.6, 0.3, 0.1]], (len(HEADS), 1))
    evidence = [HeadEvidence(same, same, np.array([1, 0, 0]))] * 4
    assert select_heads(evidence, HEADS, calibration="none").heads == ((0, 0),)


def test_a_score_is_the_mean_of_masses_less_the_content_free_ones():
    mass = np.array([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1]])
    free = np.array([[0.5, 0.5], [0.5, 0.5], [0.7, 0.3]])
    evidence = HeadEvidence(mass, free, np.array([1, 0]))
    np.testing.assert_allclose(combined(evidence, [0, 2], "none"), [0.75, 0.25])
    np.testing.assert_allclose(combined(evidence, [0, 2], "content_free"), [0.15, -0.15])


def test_settings_name_the_highest_layer_and_a_rising_map():
    calibration, selection = select(
        _evidence(), HEADS, most=4, method="qk", calibration="content_free", seed=0
    )
    settings = selected_settings(SETTINGS, selection, calibration)
    assert (settings.heads, settings.calibration) == (selection.heads, "content_free")
    assert settings.layer == 1
    slope, intercept = settings.probability
    assert slope > 0
    mean = np.mean(1 / (1 + np.exp(-slope * selection.scores - intercept)))
    assert mean == pytest.approx(0.25, abs=0.01)  # two of eight are relevant
    upside_down = selection._replace(scores=-selection.scores)
    assert selected_settings(SETTINGS, upside_down, calibration).probability is None
