"""What of an index in Milvus needs no Milvus."""

import sys

import pytest

from index.manifest.manifest import EncoderRecord
from retrieval.build import IndexSettings
from retrieval.milvus.collection import Collection, _connect
from retrieval.milvus.manifest import MILVUS_FILE, MilvusManifest, MilvusTarget
from retrieval.milvus.writer import build_in_milvus

MANIFEST = MilvusManifest(
    corpus="c",
    target=MilvusTarget(),
    collection="blockseek_1",
    encoder=EncoderRecord("e", "f", 32, 32, "mean", "", ""),
    passages=3,
    truncated=0,
    skipped=0,
    settings={},
    created_by={},
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"uri": "somewhere"}, "uri is 'somewhere', wanted http://HOST:PORT or a file of Milvus"),
        ({"uri": "http://me:secret@host"}, "uri holds a user or a password, .* MILVUS_TOKEN"),
        ({"index_type": "IVF_RABITQ"}, "'IVF_RABITQ'; Milvus Lite builds FLAT, HNSW, IVF_FLAT"),
        (
            {"uri": "http://host:19530", "index_type": "NSG"},
            "'NSG'; Milvus builds FLAT, .*IVF_RABITQ",
        ),
    ],
)
def test_a_target_that_is_none(values, message):
    with pytest.raises(ValueError, match=message) as raised:
        MilvusTarget(**values)
    assert "secret" not in str(raised.value)


def test_a_file_lies_in_the_folder_of_the_index_unless_it_is_absolute(tmp_path):
    assert MilvusTarget().address(tmp_path) == str(tmp_path / "milvus.db")
    assert MilvusTarget("/data/all.db").address(tmp_path) == "/data/all.db"
    assert MilvusTarget("http://host:19530").address(tmp_path) == "http://host:19530"


def test_the_manifest_comes_back_as_it_was_written(tmp_path):
    MANIFEST.write(tmp_path)
    assert MilvusManifest.read(tmp_path) == MANIFEST
    text = (tmp_path / MILVUS_FILE).read_text()
    for old, new, message in (
        ('"passages": 3', '"passages": -1', "passages is -1, wanted at least 0"),
        ("blockseek_1", "a; drop", "collection is 'a; drop', wanted a name of Milvus"),
        ('"format_version": 1', '"format_version": 9', "it has format 9, this version reads 1"),
        ("HNSW", "NSG", "index_type is 'NSG'; Milvus Lite builds"),
        ('"skipped": 0,', "", "skipped is missing"),
        ("{", "", "is damaged"),
    ):
        (tmp_path / MILVUS_FILE).write_text(text.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            MilvusManifest.read(tmp_path)


def test_what_milvus_is_not_asked_for(tmp_path):
    with pytest.raises(ValueError, match="--faiss is for an index of files"):
        build_in_milvus("c.tsv", tmp_path, IndexSettings(faiss="Flat"), MilvusTarget())
    with pytest.raises(
        ValueError, match="Milvus Lite is open to one process alone: with Ray, name"
    ):
        build_in_milvus("c.tsv", tmp_path, IndexSettings(), MilvusTarget(), engine="ray")


def test_pymilvus_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    _connect.cache_clear()
    with pytest.raises(ValueError, match=r"not installed: pip install 'blockseek\[milvus\]'"):
        Collection("x.db", "blockseek_1")
    with pytest.raises(ValueError, match="pymilvus is not installed"):
        build_in_milvus("no-such.tsv", tmp_path / "index", IndexSettings(), MilvusTarget())
    assert not (tmp_path / "index").exists()
