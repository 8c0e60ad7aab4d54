import numpy as np
import pytest

from retrieval.adapter.candidates import CANDIDATES, fit_candidate, fit_platt, usable_candidates
from retrieval.adapter.cosine_adapter import CosineAdapter
from retrieval.adapter.hits import LabelledHits, pack_hits, pack_labelled
from retrieval.adapter.maps import MAPS, outputs_of
from retrieval.adapter.network import AdapterSettings, Start
from retrieval.adapter.profile import profile_names
from retrieval.adapter.scorers import (
    PLAIN_SCORERS,
    GlobalScore,
    MaxGap,
    MaxNormalised,
    sigmoid,
)

SMALL = AdapterSettings(hidden=8, members=2, epochs=3, depth=10)
SCALES = {"cosine": (0.3, 0.3), "all negative": (-6.0, 2.0), "logits": (0.0, 8.0)}


def _labelled(queries: int, seed: int = 0, scale: str = "cosine", d: int = 6) -> LabelledHits:
    generator = np.random.default_rng(seed)
    centre, spread = SCALES[scale]
    scores, labels = [], []
    for _ in range(queries):
        size = int(generator.integers(1, 25))
        relevant = generator.random(size) < 0.3
        x = centre + spread * (generator.normal(size=size) + relevant)
        x = np.clip(x, -1, 1) if scale == "cosine" else x
        order = np.argsort(-x)
        scores.append(x[order].astype(np.float32))
        labels.append(relevant[order].astype(np.int8))
    embeddings = generator.normal(size=(queries, d)).astype(np.float32)
    return pack_labelled(embeddings, scores, labels)


def _falls(values: np.ndarray, labelled: LabelledHits) -> bool:
    inside = np.diff(labelled.hits.query_of_hit) == 0
    return bool((np.diff(values)[inside] <= 0).all())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", CANDIDATES)
def test_every_candidate_keeps_the_order_of_every_query_on_any_scale(name, scale):
    """Negative best scores turn x / best around, and rerankers have them."""
    training, fresh = _labelled(60, 1, scale), _labelled(200, 2, scale)
    values = fit_candidate(name, training, SMALL, seed=0).values(fresh.hits)
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    assert _falls(values, fresh)
    assert len(np.unique(values)) > 10


@pytest.mark.parametrize("name", CANDIDATES)
def test_labels_that_fall_with_the_score_do_not_turn_the_order_around(name):
    labelled = _labelled(60, 3)
    turned = labelled._replace(labels=(1 - labelled.labels).astype(np.int8))
    values = fit_candidate(name, turned, SMALL, seed=0).values(turned.hits)
    assert _falls(values, turned)


@pytest.mark.parametrize("inputs", ["embedding", "profile", "both"])
@pytest.mark.parametrize("name", MAPS[1:])
def test_random_networks_invert_nothing(name, inputs):
    """Weights nobody trained, large ones, over 100,000 hits."""
    generator = np.random.default_rng(5)
    depth, d = 10, 6
    size = {"embedding": d, "profile": len(profile_names(depth))}
    width = size.get(inputs, sum(size.values()))
    outputs = outputs_of(name)
    shapes = {
        "first": (2, width, 8),
        "first_bias": (2, 1, 8),
        "second": (2, 8, 8),
        "second_bias": (2, 1, 8),
        "last": (2, 8, outputs),
        "last_bias": (2, 1, outputs),
        "beside": (2, width, outputs),
    }
    weights = {n: 3 * generator.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    profile = 0 if inputs == "embedding" else len(profile_names(depth))
    weights |= {"profile_mean": np.zeros(profile), "profile_spread": np.ones(profile)}
    settings = AdapterSettings(map=name, inputs=inputs, depth=depth, hidden=8, members=2)
    scorer = CosineAdapter(settings, Start(14.0, -2.0, 0.4), weights)
    lists = np.sort(generator.uniform(-1, 1, (1000, 100)).astype(np.float32), axis=1)[:, ::-1]
    hits = pack_hits(generator.normal(size=(1000, d)).astype(np.float32), list(lists))
    parameters = scorer.parameters(hits)
    assert (parameters[:, 0] > 0).all()
    assert len(np.unique(parameters[:, 0])) > 100
    values = scorer.values(hits).reshape(1000, 100)
    assert np.isfinite(values).all()
    assert int((np.diff(values, axis=1) > 0).sum()) == 0


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_query_gets_the_same_values_alone_and_in_any_batch(name):
    """A threshold sits on one hit's value: a last bit that moves with the batch would cut it."""
    labelled = _labelled(50, 4)
    scorer = fit_candidate(name, labelled, SMALL, seed=0)
    together = labelled.hits.split(scorer.values(labelled.hits))
    for query in (0, 17, 49):
        alone = scorer.values(labelled.select(np.array([query])).hits)
        np.testing.assert_array_equal(alone, together[query])


@pytest.mark.parametrize("name", ["adapter:linear:profile", "adapter:power:both", "max-norm"])
def test_hits_below_the_needed_ones_change_nothing_above(name):
    labelled = _labelled(60, 6)
    scorer = fit_candidate(name, labelled, SMALL, seed=0)
    hits = labelled.hits
    parts = hits.split(hits.scores)
    short = pack_hits(hits.embeddings, [part[: scorer.needed_hits] for part in parts])
    whole = hits.split(scorer.values(hits))
    for a, b in zip(short.split(scorer.values(short)), whole, strict=True):
        np.testing.assert_array_equal(a, b[: len(a)])


def test_training_is_deterministic_and_leaves_torch_as_it_was():
    import torch

    labelled = _labelled(40, 7)
    before = torch.get_num_threads(), torch.random.get_rng_state()
    first, again, other = (
        fit_candidate("adapter:linear:both", labelled, SMALL, seed=s).values(labelled.hits)
        for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])


def test_unjudged_hits_teach_nothing():
    """Without the profile as input, unjudged hits at the end of a list change no model."""
    labelled = _labelled(50, 8)
    parts = labelled.hits.split(labelled.hits.scores)
    marks = labelled.hits.split(labelled.labels)
    longer = pack_labelled(
        labelled.hits.embeddings,
        [np.append(p, np.float32(-1)) for p in parts],
        [np.append(m, np.int8(-1)) for m in marks],
    )
    for name in ("platt", "isotonic", "adapter:linear:embedding"):
        a = fit_candidate(name, labelled, SMALL, seed=0).values(labelled.hits)
        b = fit_candidate(name, longer, SMALL, seed=0).values(labelled.hits)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_plain_scorers_by_hand():
    lists = [np.array(one, np.float32) for one in ([0.8, 0.6, 0.1], [0.5], [], [-0.5, -1.0])]
    hits = pack_hits(None, lists)
    assert GlobalScore().values(hits).tolist() == hits.scores.tolist()
    assert MaxNormalised().values(hits) == pytest.approx([1, 0.75, 0.125, 1, -1, -2])
    assert PLAIN_SCORERS["top-k"].values(hits).tolist() == [-1, -2, -3, -1, -1, -2]
    assert MaxGap(depth=10).values(hits).tolist() == [1, 1, 0, 1, 1, 0]
    assert MaxGap(depth=2).values(hits).tolist() == [1, 0, 0, 1, 1, 0]


def test_a_best_score_of_zero_divides_nothing_by_zero():
    hits = pack_hits(None, [np.array([0.0, -0.5], np.float32), np.array([0.0], np.float32)])
    values = MaxNormalised().values(hits)
    assert np.isfinite(values).all()
    assert values[1] < values[0] == 0


def test_platt_finds_planted_parameters():
    generator = np.random.default_rng(9)
    x = np.sort(generator.random((400, 50)).astype(np.float32), axis=1)[:, ::-1]
    labels = generator.random(x.shape) < sigmoid(12.0 * x - 7.0)
    labelled = pack_labelled(None, list(x), list(labels.astype(np.int8)))
    slope, offset, centre = fit_platt(labelled.hits.scores, labelled, "linear")
    assert slope == pytest.approx(12, rel=0.05)
    assert offset - slope * centre == pytest.approx(-7, rel=0.05)


def test_isotonic_follows_a_step_that_platt_cannot():
    x = np.linspace(1, 0, 400, dtype=np.float32)
    labels = ((x > 0.5) | (np.arange(400) % 10 == 0)).astype(np.int8)
    labelled = pack_labelled(None, [x], [labels])
    p = sigmoid(fit_candidate("isotonic", labelled, SMALL, 0).values(labelled.hits))
    assert p[x > 0.6].min() > 0.95
    assert p[x < 0.4] == pytest.approx(0.1, abs=0.05)


def test_candidates_without_embeddings():
    names = usable_candidates(None, has_embeddings=False)
    assert "adapter:linear:profile" in names
    assert not any(name.endswith((":embedding", ":both")) for name in names)
    with pytest.raises(ValueError, match="'adapter:linear:both' reads query embeddings"):
        usable_candidates(("adapter:linear:both",), has_embeddings=False)
    with pytest.raises(ValueError, match="candidate 'bm25' is not one of global, max-norm"):
        usable_candidates(("bm25",), has_embeddings=True)


def test_an_adapter_names_missing_and_misshapen_embeddings():
    labelled = _labelled(40, 1)
    scorer = fit_candidate("adapter:linear:embedding", labelled, SMALL, 0)
    with pytest.raises(ValueError, match="reads query embeddings and none were given"):
        scorer.values(labelled.hits._replace(embeddings=None))
    with pytest.raises(ValueError, match="embeddings of 6 dimensions and these have 4"):
        scorer.values(labelled.hits._replace(embeddings=labelled.hits.embeddings[:, :4]))


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="adapter inputs 'text'"):
        AdapterSettings(inputs="text")
    with pytest.raises(ValueError, match="members=0 must be at least 1"):
        AdapterSettings(members=0)
