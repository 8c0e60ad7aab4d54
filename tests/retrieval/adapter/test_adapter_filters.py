import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from retrieval.adapter.candidates import CANDIDATES, fit_candidate
from retrieval.adapter.filters import (
    FILTER_FILE,
    ThresholdFilter,
    load_filter,
    max_gap_filter,
    max_norm_filter,
    threshold_filter,
    top_k_filter,
)
from retrieval.adapter.hits import pack_labelled
from retrieval.adapter.network import AdapterSettings
from retrieval.adapter.scorers import Isotonic
from retrieval.calibration import KEEP_ALL

ENCODER = "an-encoder@1"
SMALL = AdapterSettings(hidden=8, members=2, epochs=3, depth=5)


def _lists(*lists):
    return [np.array(one, np.float32) for one in lists]


def _fitted(name: str) -> tuple[ThresholdFilter, np.ndarray, list[np.ndarray]]:
    generator = np.random.default_rng(0)
    scores = [np.sort(generator.random(12).astype(np.float32))[::-1] for _ in range(60)]
    labels = [(generator.random(12) < one).astype(np.int8) for one in scores]
    embeddings = generator.normal(size=(60, 4)).astype(np.float32)
    scorer = fit_candidate(name, pack_labelled(embeddings, scores, labels), SMALL, 0)
    values = np.sort(scorer.values(pack_labelled(embeddings, scores, labels).hits))
    # On a value, where a rounding error would show.
    return ThresholdFilter(scorer, float(values[len(values) // 2]), ENCODER), embeddings, scores


def test_a_threshold_keeps_scores_at_it():
    """Scores are float32 and .35 is not: a hit of .35 must pass a threshold of .35."""
    kept = threshold_filter(0.35).keep(None, _lists([0.9, 0.35, 0.3499], [], [0.1]))
    assert [one.tolist() for one in kept] == [[True, True, False], [], [False]]
    assert all(one.dtype == bool for one in kept)


def test_plain_filters_by_hand():
    scores = _lists([0.8, 0.6, 0.1], [0.5])
    assert [m.tolist() for m in max_norm_filter(0.75).keep(None, scores)] == [
        [True, True, False],
        [True],
    ]
    assert [m.tolist() for m in top_k_filter(1).keep(None, scores)] == [
        [True, False, False],
        [True],
    ]
    assert [m.tolist() for m in max_gap_filter().keep(None, scores)] == [
        [True, True, False],
        [True],
    ]


def test_no_query_and_no_hit_are_no_error():
    assert threshold_filter(0.1).keep(None, []) == []
    chosen, embeddings, _ = _fitted("adapter:power:both")
    assert [m.tolist() for m in chosen.keep(embeddings[:1], _lists([]))] == [[]]
    assert chosen.keep(embeddings[:0], []) == []


@pytest.mark.parametrize("name", [*CANDIDATES, "top-k", "max-gap"])
def test_saved_and_loaded_filters_decide_alike(name, tmp_path):
    if name in CANDIDATES:
        chosen, embeddings, scores = _fitted(name)
    else:
        chosen = top_k_filter(3) if name == "top-k" else max_gap_filter(9)
        _, embeddings, scores = _fitted("platt")
    chosen.save(tmp_path)
    loaded = load_filter(tmp_path, ENCODER)
    assert loaded.threshold == chosen.threshold
    assert loaded.needed_hits == chosen.needed_hits
    for ours, theirs in (
        (chosen.keep(embeddings, scores), loaded.keep(embeddings, scores)),
        (chosen.calibrated(embeddings, scores), loaded.calibrated(embeddings, scores)),
    ):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    masks = chosen.keep(embeddings, scores)
    assert 0 < sum(int(m.sum()) for m in masks) < sum(map(len, masks))


@pytest.mark.parametrize("name", CANDIDATES)
def test_calibrated_scores_lie_in_the_unit_interval_and_keep_a_prefix(name):
    chosen, embeddings, scores = _fitted(name)
    for p, mask in zip(
        chosen.calibrated(embeddings, scores), chosen.keep(embeddings, scores), strict=True
    ):
        assert ((p >= 0) & (p <= 1)).all()
        assert (np.diff(p) <= 0).all()
        assert mask.tolist() == sorted(mask.tolist(), reverse=True)


def test_a_plain_threshold_is_calibrated_to_a_half():
    (p,) = threshold_filter(0.25).calibrated(None, _lists([0.5, 0.25, 0.0]))
    assert p[1] == 0.5
    assert p[0] > 0.5 > p[2]


def test_the_cut_moves_by_hand_to_a_probability():
    chosen, embeddings, scores = _fitted("platt")
    moved = chosen.with_threshold(0.7)
    for p, mask in zip(
        moved.calibrated(embeddings, scores), moved.keep(embeddings, scores), strict=True
    ):
        sure = np.abs(p - 0.7) > 1e-9
        np.testing.assert_array_equal(mask[sure], (p >= 0.7)[sure])
    with pytest.raises(ValueError, match="no probability"):
        chosen.with_threshold(1.2)


def test_a_filter_is_bound_to_its_encoder(tmp_path):
    chosen, _, _ = _fitted("platt")
    chosen.save(tmp_path / "fitted")
    with pytest.raises(
        ValueError, match="fitted on scores of 'an-encoder@1' and these come from 'other@2'"
    ):
        load_filter(tmp_path / "fitted", "other@2")
    threshold_filter(0.3).save(tmp_path / "plain")
    assert load_filter(tmp_path / "plain", "other@2").threshold == pytest.approx(0.3)


def test_bad_input_to_keep_gets_one_sentence():
    chosen, embeddings, scores = _fitted("adapter:linear:embedding")
    with pytest.raises(ValueError, match="reads query embeddings and none were given"):
        chosen.keep(None, scores)
    with pytest.raises(ValueError, match="do not fit 60 queries"):
        chosen.keep(embeddings[:5], scores)
    with pytest.raises(ValueError, match="score nan at rank 2"):
        threshold_filter(0.5).keep(None, _lists([0.5, np.nan]))
    with pytest.raises(ValueError, match="rise at rank 2"):
        threshold_filter(0.5).keep(None, _lists([0.1, 0.5]))


def test_a_threshold_that_keeps_all_survives_json(tmp_path):
    """What risk control answers when only cutting nothing is safe."""
    chosen, embeddings, scores = _fitted("adapter:linear:both")
    ThresholdFilter(chosen.scorer, KEEP_ALL, ENCODER).save(tmp_path)
    loaded = load_filter(tmp_path, ENCODER)
    assert loaded.threshold == KEEP_ALL
    assert all(mask.all() for mask in loaded.keep(embeddings, scores))


def test_missing_and_damaged_files_get_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no filter at"):
        load_filter(tmp_path, ENCODER)
    chosen, _, _ = _fitted("adapter:linear:profile")
    chosen.save(tmp_path)
    (weights,) = tmp_path.glob("weights-*.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(ValueError, match="is damaged"):
        load_filter(tmp_path, ENCODER)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="is damaged"):
        load_filter(tmp_path, ENCODER)
    weights.unlink()
    with pytest.raises(ValueError, match="is damaged"):
        load_filter(tmp_path, ENCODER)
    description = tmp_path / FILTER_FILE
    text = description.read_text(encoding="utf-8")
    description.write_text(text[:-30], encoding="utf-8")
    with pytest.raises(ValueError, match="is no filter description"):
        load_filter(tmp_path, ENCODER)
    future = {**json.loads(text), "format_version": 99}
    description.write_text(json.dumps(future), encoding="utf-8")
    with pytest.raises(ValueError, match="has format version 99"):
        load_filter(tmp_path, ENCODER)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "../../outside.safetensors"}, "weights is '.*', wanted the name of its file"),
        ({"weights": "/etc/passwd"}, "weights is '/etc/passwd', wanted the name"),
        ({"threshold": True}, "threshold is True, wanted float"),
        ({"threshold": "0.5"}, "threshold is '0.5', wanted float"),
        ({"kind": ["adapter"]}, "kind is .*, wanted str"),
        ({"encoder_fingerprint": None}, "encoder_fingerprint is None, wanted str"),
        ({"scorer": 3}, "scorer is 3, wanted dict"),
        ({"kind": "nobody"}, "scorer 'nobody' is not one of"),
        ({"kind": "platt"}, "platt: unknown setting 'settings'"),
        ({"scorer": {"settings": {"hidden": 10**9}}}, "adapter: start is missing"),
        ({"scorer": {"settings": {"map": "linear"}, "start": {"slope": "x"}}}, "slope is 'x'"),
    ],
)
def test_a_description_by_a_stranger_is_checked(tmp_path, change, message):
    chosen, _, _ = _fitted("adapter:linear:both")
    chosen.save(tmp_path)
    description = json.loads((tmp_path / FILTER_FILE).read_text())
    (tmp_path / FILTER_FILE).write_text(json.dumps(description | change))
    with pytest.raises(ValueError, match=message) as raised:
        load_filter(tmp_path, ENCODER)
    assert "fit the filter again" in str(raised.value)


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, '{"threshold": NaN}', "\ufeff{"])
def test_a_description_that_is_no_json_is_one_sentence(tmp_path, text):
    (tmp_path / FILTER_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"filter\.json is no filter description"):
        load_filter(tmp_path, ENCODER)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("isotonic", {"scores": np.zeros(1)}, "no knots of one curve"),
        ("isotonic", {"logits": np.full(99, np.nan)}, "logits holds what is no finite number"),
        ("isotonic", {"more": np.zeros(1)}, "unknown setting 'more'"),
        ("adapter:linear:both", {"first": np.zeros((1, 2, 3))}, "not those of a network of its"),
        ("adapter:linear:both", {"profile_mean": np.zeros(3)}, "not those of a network of its"),
        ("adapter:linear:both", {"last": np.zeros(3, np.int64)}, "last holds what is no finite"),
    ],
)
def test_weights_by_a_stranger_are_checked(tmp_path, name, change, message):
    chosen, _, _ = _fitted(name)
    chosen.save(tmp_path)
    (weights,) = tmp_path.glob("weights-*")
    payload = save({**load_file(weights), **change})
    renamed = f"weights-{hashlib.sha256(payload).hexdigest()[:16]}.safetensors"
    (tmp_path / renamed).write_bytes(payload)
    description = json.loads((tmp_path / FILTER_FILE).read_text())
    (tmp_path / FILTER_FILE).write_text(json.dumps(description | {"weights": renamed}))
    with pytest.raises(ValueError, match=message) as raised:
        load_filter(tmp_path, ENCODER)
    assert f"{renamed} is damaged" in str(raised.value)


def test_a_curve_that_falls_and_a_link_that_leads_out_are_refused(tmp_path):
    folder = tmp_path / "filter"
    with pytest.raises(ValueError, match="its curve falls"):
        Isotonic(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    _fitted("isotonic")[0].save(folder)
    (weights,) = folder.glob("weights-*")
    weights.rename(tmp_path / weights.name)
    weights.symlink_to(tmp_path / weights.name)
    with pytest.raises(ValueError, match="a link that leads out of the folder"):
        load_filter(folder, ENCODER)


def test_saving_over_a_filter_leaves_one_and_a_crash_leaves_the_old_one(tmp_path, monkeypatch):
    first, second = _fitted("isotonic")[0], _fitted("adapter:linear:both")[0]
    first.save(tmp_path)
    from pathlib import Path

    replace = Path.replace

    def crash(self, target):
        if Path(target).name == FILTER_FILE:
            raise OSError("power cut")
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match="power cut"):
            second.save(tmp_path)
    assert load_filter(tmp_path, ENCODER).scorer.kind == "isotonic"
    second.save(tmp_path)
    assert load_filter(tmp_path, ENCODER).scorer.kind == "adapter"
    assert sorted(p.suffix for p in tmp_path.iterdir() if not p.name.startswith(".")) == [
        ".json",
        ".safetensors",
    ]


def test_a_plain_filter_needs_no_heavy_import():
    code = (
        "import sys; from retrieval.adapter.filters import load_filter, threshold_filter; "
        "threshold_filter(.3).keep(None, []); "
        "print([m for m in ('torch', 'sklearn', 'scipy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
