import json
import pickle
import shutil
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from configs.models import find_model
from index.records import Passage
from retrieval.build import IndexSettings, build_index
from retrieval.changes import add_passages
from retrieval.encoder import Encoder, even_batches
from retrieval.retriever import Retriever

TEXTS = [Passage(str(n), "", f"passage {'word ' * n}") for n in range(1, 60, 7)]


@pytest.fixture(scope="module")
def tiny(tiny_encoder):
    return Encoder.load(str(tiny_encoder), device="cpu")


def test_rows_have_length_one_and_come_in_order(tiny):
    vectors, _ = tiny.encode_passages(TEXTS)
    assert vectors.shape == (len(TEXTS), 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=0, atol=1e-6)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(tiny.encode_queries([text.text])[0], vector, rtol=0, atol=1e-5)


def test_truncated_passages_are_counted(tiny):
    """32 tokens with [CLS] and [SEP]: "passage" and 29 words still fit."""
    fits, cut = (Passage("p", "", "passage " + "word " * words) for words in (29, 30))
    assert tiny.encode_passages([fits])[1] == 0
    vectors, truncated = tiny.encode_passages([cut, fits, cut])
    assert truncated == 2
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=0, atol=1e-5)


def test_the_title_is_read(tiny):
    with_title, _ = tiny.encode_passages([Passage("p", "Pear", "A fruit.")])
    np.testing.assert_array_equal(with_title, tiny.encode_queries(["Pear\nA fruit."]))


def test_a_lower_length(tiny_encoder, tiny):
    short = Encoder.load(str(tiny_encoder), device="cpu", max_length=8)
    assert short.record.max_length == 8
    assert short.record.fingerprint != tiny.record.fingerprint
    assert short.encode_passages(TEXTS)[1] == len(TEXTS) - 1
    with pytest.raises(ValueError, match=r"max_length is 33, encoder .* reads 32"):
        Encoder.load(str(tiny_encoder), device="cpu", max_length=33)


def test_empty_queries_are_refused(tiny):
    with pytest.raises(ValueError, match="query 2 of 2 is empty"):
        tiny.encode_queries(["good", " \n"])


def test_an_unknown_encoder_is_one_sentence():
    with pytest.raises(ValueError, match=r"neither a local model .* nor a folder") as raised:
        Encoder.load("no/such-encoder")
    assert "go online once, or name a folder" in str(raised.value)
    with pytest.raises(ValueError, match="neither a local model"):
        Encoder.load("/no/such/folder")


def test_a_folder_that_is_no_encoder(tmp_path):
    with pytest.raises(ValueError, match="could not be read from"):
        Encoder.load(str(tmp_path))


class _Bomb:
    """A pickle that leaves a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def stranger(tiny_encoder, tmp_path):
    """A copy of the small encoder, with a dense layer behind its pooling."""
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, folder)
    modules = json.loads((folder / "modules.json").read_text())
    dense = "sentence_transformers.sentence_transformer.modules.Dense"
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": dense})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Dense").mkdir()
    config = {"in_features": 32, "out_features": 32, "bias": False}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
    weights = {"linear.weight": np.eye(32, dtype=np.float32)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    return folder


@pytest.mark.parametrize("place", [".", "2_Dense"])
def test_pickled_weights_are_refused_and_not_read(stranger, tmp_path, place):
    assert Encoder.load(str(stranger), device="cpu").record.dimension == 32
    exploded = tmp_path / "exploded"
    (stranger / place / "model.safetensors").unlink()
    pickled = stranger / place / "pytorch_model.bin"
    pickled.write_bytes(pickle.dumps(_Bomb(exploded)))
    with pytest.raises(ValueError, match="is a pickle, which can run any code") as raised:
        Encoder.load(str(stranger), device="cpu")
    assert f"{pickled.parent.name}/pytorch_model.bin is a pickle" in str(raised.value)
    assert "save_pretrained writes safetensors" in str(raised.value)
    assert not exploded.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "mine.Module"}, "names the class 'mine.Module', which is not sentence-transfor"),
        ({"path": "../elsewhere"}, r"names the folder '../elsewhere', which leads out of the mod"),
        ({"path": "/elsewhere"}, r"names the folder '/elsewhere', which leads out of the model"),
        (None, "is no list of modules, each with a type and a path"),
    ],
)
def test_modules_of_a_stranger_are_refused_before_they_are_imported(
    stranger, tmp_path, change, message
):
    (stranger / "mine.py").write_text(f"open({str(tmp_path / 'exploded')!r}, 'w')\nModule = int")
    modules = json.loads((stranger / "modules.json").read_text())
    modules[2] = {**modules[2], **change} if change else "Dense"
    (stranger / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=message):
        Encoder.load(str(stranger), device="cpu")
    assert not (tmp_path / "exploded").exists()


def test_neither_pickles_nor_code_are_fetched_from_the_hub(stranger, monkeypatch):
    """What the hub gives is held to the same: here a snapshot that has them from elsewhere."""
    asked = []

    def snapshot(name, *, allow_patterns, **_):
        asked.append((name, allow_patterns))
        return str(stranger)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert Encoder.load("some/encoder", device="cpu").record.name == "some/encoder"
    assert asked[-1][0] == "some/encoder"
    fetched = asked[-1][1]
    for name, wanted in (
        ("model.safetensors", True),
        ("1_Pooling/config.json", True),
        ("2_Dense/pytorch_model.bin", False),
        ("modeling.py", False),
    ):
        assert any(fnmatch(name, pattern) for pattern in fetched) == wanted
    for place in (stranger, stranger / "2_Dense"):
        weights = place / "model.safetensors"
        weights.rename(place / "pytorch_model.bin")
        with pytest.raises(ValueError, match="is a pickle"):
            Encoder.load("some/encoder", device="cpu")
        (place / "pytorch_model.bin").rename(weights)


@pytest.fixture(scope="module")
def minilm_copies(tmp_path_factory):
    """MiniLM copied, and copied with one tensor changed."""
    folder = tmp_path_factory.mktemp("minilm")
    for name in ("same", "changed"):
        shutil.copytree(find_model("minilm"), folder / name)
    weights = load_file(folder / "changed" / "model.safetensors")
    name = next(name for name in weights if name.endswith("layer.3.output.dense.bias"))
    weights[name] = weights[name] + np.float32(0.01)
    save_file(weights, folder / "changed" / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_fingerprint_knows_a_copy_from_another_model(minilm_copies):
    ours = Encoder.load("minilm", device="cpu")
    same = Encoder.load(str(minilm_copies / "same"), device="cpu")
    changed = Encoder.load(str(minilm_copies / "changed"), device="cpu")
    assert ours.record.fingerprint == same.record.fingerprint
    assert ours.record.fingerprint != changed.record.fingerprint
    assert (ours.record.dimension, ours.record.pooling) == (384, "mean")


def test_an_index_is_searched_by_the_encoder_that_built_it(made_index, tiny_encoder, minilm_copies):
    opened = Retriever.open(made_index, encoder=str(tiny_encoder), device="cpu")
    assert opened.search("passage word", 1)[0][0].rank == 1
    with pytest.raises(ValueError, match=r"was built by encoder .*, not by .*changed"):
        Retriever.open(made_index, encoder=Encoder.load(str(minilm_copies / "changed")))


@pytest.mark.parametrize(("dtype", "off"), [("float16", 1e-3), ("bfloat16", 1e-2)])
def test_half_precision_gives_unit_vectors_of_the_same_encoder(tiny_encoder, tiny, dtype, off):
    half = Encoder.load(str(tiny_encoder), device="cpu", dtype=dtype)
    assert half.record == tiny.record
    vectors, truncated = half.encode_passages(TEXTS)
    whole, truncated_too = tiny.encode_passages(TEXTS)
    assert truncated == truncated_too
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=0, atol=1e-6)
    assert np.abs(vectors - whole).max() > 0
    np.testing.assert_allclose((vectors * whole).sum(axis=1), 1, rtol=0, atol=off)


def test_a_dtype_that_is_none(tiny_encoder):
    with pytest.raises(ValueError, match="dtype is 'int8', wanted one of float32, float16, bfloat"):
        Encoder.load("no/such-encoder", dtype="int8")


def test_what_is_added_is_encoded_in_the_dtype_of_the_build(tmp_path, made_corpus, tiny_encoder):
    settings = IndexSettings(encoder=str(tiny_encoder), dtype="bfloat16")
    build_index(str(made_corpus), tmp_path / "index", settings, device="cpu")
    one = Passage("copy", "Title 7", "text 7 ")
    add_passages(tmp_path / "index", [one], device="cpu")
    opened = Retriever.open(tmp_path / "index", device="cpu")
    assert opened.encoder.dtype == "float32"
    built, added = opened.index.cosines(opened.encode_queries(["word"])[0], ["p07", "copy"])
    assert built == pytest.approx(added, abs=1e-2)
    assert opened.index.manifest.settings["dtype"] == "bfloat16"


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 200))
def test_batches_hold_every_text_once_and_no_more_tokens_than_asked(lengths, most):
    batches = list(even_batches(np.array(lengths, np.int64), most))
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    padded = [[lengths[row] for row in batch] for batch in batches]
    assert all(len(batch) == 1 or len(batch) * max(batch) <= most for batch in padded)
    assert [length for batch in padded for length in batch] == sorted(lengths, reverse=True)
    for batch, after in pairwise(padded):  # none of them could be joined
        assert (len(batch) + len(after)) * max(batch) > most


def test_batches_are_bounded_by_tokens_and_not_by_texts(tiny, monkeypatch):
    """32 tokens is all that the tiny model reads: 1,024 of them are 32 texts, or 256 of four."""
    asked = []
    encode = tiny._model.encode

    def noted(texts, **options):
        asked.append(len(texts))
        return encode(texts, **options)

    monkeypatch.setattr(tiny._model, "encode", noted)
    long = [Passage(f"l{n}", "", "passage " + "word " * 40) for n in range(33)]
    short = [Passage(f"s{n}", "", "passage word") for n in range(300)]
    vectors, truncated = tiny.encode_passages([*short, *long])
    assert truncated == 33
    assert asked == [32, 32, 256, 13]
    np.testing.assert_allclose(vectors[0], vectors[299], rtol=0, atol=1e-6)
    assert tiny.encode_passages([])[0].shape == (0, 32)
