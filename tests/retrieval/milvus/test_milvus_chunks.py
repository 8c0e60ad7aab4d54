"""Documents in chunks, in Milvus: built, found and changed as in an index of files."""

import json

import pytest

from retrieval import Encoder, Passage, Retriever, add_passages, delete_passages, update_passages
from retrieval.build import IndexSettings, build_index
from retrieval.milvus.manifest import MilvusTarget
from retrieval.milvus.writer import build_in_milvus

pytestmark = pytest.mark.cluster
pytest.importorskip("pymilvus", reason="pymilvus is not installed: pip install 'blockseek[milvus]'")

LONG = " ".join(f"Sentence {n} says word{n}." for n in range(20))
# Ids that begin with others, and with what ends a chunk's.
DOCUMENTS = {"a": LONG, "a#0-5": LONG[:90], "a~": "Short.", "50%": LONG[50:], "甲": "蜂蜜。" * 9}


def test_the_same_documents_are_found_and_changed(tmp_path, tiny_encoder, run_module):
    rows = [{"_id": id_, "text": text} for id_, text in DOCUMENTS.items()]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = IndexSettings(encoder=str(tiny_encoder), chunk=16, overlap=4, shard_size=8)
    folder, files = tmp_path / "milvus", tmp_path / "files"
    build_index(str(tmp_path / "c.jsonl"), files, settings, device="cpu")
    target = MilvusTarget(index_type="FLAT")
    build_in_milvus(str(tmp_path / "c.jsonl"), folder, settings, target, device="cpu")
    encoder = Encoder.load(str(tiny_encoder), device="cpu")

    def same():
        ours, theirs = (Retriever.open(each, encoder=encoder) for each in (folder, files))
        assert ours.index.ids == sorted(theirs.index.ids)
        for group in (None, "best", "sum3"):
            found, wanted = (
                each.search(["word3 and word4"], 9, group=group)[0] for each in (ours, theirs)
            )
            assert [(h.id, h.chunk) for h in found] == [(h.id, h.chunk) for h in wanted]
            assert [p.text for p in ours.passages(found)] == [
                p.text for p in theirs.passages(wanted)
            ]

    same()
    info = run_module("retrieval.index", "info", folder).stdout
    assert "chunks     of at most 16 tokens, overlapping by 4" in info
    for change in (
        lambda index: add_passages(index, [Passage("new", "", LONG[9:])], encoder=encoder),
        lambda index: update_passages(index, [Passage("a", "", LONG[:50])], encoder=encoder),
        lambda index: delete_passages(index, ["50%", "甲"]),
    ):
        done = [change(index)[1:6] for index in (folder, files)]
        assert done[0] == done[1]
        same()
    with pytest.raises(ValueError, match="has a document 'new' already"):
        add_passages(folder, [Passage("new", "", "text")], encoder=encoder)
    with pytest.raises(ValueError, match="has no document 'a#0-24'"):
        delete_passages(folder, ["a#0-24"])
