"""An index in Milvus, Lite but the real thing, held against one of files of the same passages."""

import json

import numpy as np
import pytest

from index.dense_index import DenseIndex
from index.records import Passage
from retrieval import Retriever
from retrieval.build import IndexSettings
from retrieval.changes import add_passages, compact_index, delete_passages, update_passages
from retrieval.milvus.collection import Collection
from retrieval.milvus.manifest import MilvusManifest, MilvusTarget
from retrieval.milvus.writer import MilvusWriter, build_in_milvus

pytestmark = pytest.mark.cluster
pytest.importorskip("pymilvus", reason="pymilvus is not installed: pip install 'blockseek[milvus]'")

ODD_IDS = ["it's", 'say"so"', "back\\slash", "p'or'a'=='a", "50%", "%35", "ü🙂", "{x}"]


@pytest.fixture(scope="module")
def settings(tiny_encoder):
    return IndexSettings(encoder=str(tiny_encoder), shard_size=16)


@pytest.fixture(scope="module", params=["FLAT", "HNSW", "IVF_FLAT"])
def in_milvus(request, tmp_path_factory, made_corpus, settings):
    """The index of `made_corpus`, in a file of Milvus Lite beside its manifest."""
    folder = tmp_path_factory.mktemp("milvus") / "index"
    target = MilvusTarget(index_type=request.param)
    build_in_milvus(str(made_corpus), folder, settings, target, device="cpu")
    return folder


def test_it_finds_what_an_index_of_files_finds_to_the_last_bit(in_milvus, made_index):
    ours, files = Retriever.open(in_milvus, device="cpu"), Retriever.open(made_index, device="cpu")
    assert len(ours.index) == len(files.index) == 60
    assert ours.index.ids == sorted(files.index.ids)
    queries = [f"title {n} word" for n in range(0, 60, 7)]
    for k in (1, 5, 100):
        assert ours.search(queries, k) == files.search(queries, k)
    (hits,) = ours.search(queries[0], 7)
    assert ours.passages(hits) == files.passages(hits)
    (vector,) = ours.encode_queries(queries[:1])
    assert ours.index.cosines(vector, [hit.id for hit in hits]).tolist() == [h.score for h in hits]
    assert ours.index.search(np.empty((0, 32), np.float32), 3) == []
    assert ours.index.cosines(vector, []).tolist() == []
    with pytest.raises(ValueError, match="has no passage 'none'"):
        ours.index.passages(["p01", "none"])


def test_the_manifest_says_where_it_is_and_what_made_it(in_milvus, made_index, run_module):
    manifest = MilvusManifest.read(in_milvus)
    files = DenseIndex.open(made_index).manifest
    assert (manifest.passages, manifest.truncated, manifest.skipped) == (60, 4, 0)
    assert (manifest.encoder, manifest.corpus) == (files.encoder, files.corpus)
    assert (manifest.settings, manifest.created_by) == (files.settings, files.created_by)
    assert sorted(path.name for path in in_milvus.iterdir()) == [
        ".lock",
        "milvus.db",
        "milvus.json",
    ]
    told = run_module("retrieval.index", "info", in_milvus).stdout
    assert f"milvus     {manifest.target.index_type}, collection {manifest.collection} at" in told
    printed = json.loads(run_module("retrieval.index", "info", in_milvus, "--json").stdout)
    assert printed["collection"] == manifest.collection


@pytest.fixture
def build(tmp_path, settings):
    """Builds an index of a few passages, and gives its folder."""

    def build(*passages, target=MilvusTarget(index_type="FLAT"), **options):  # noqa: B008
        corpus = tmp_path / "corpus.jsonl"
        rows = [{"_id": p.id, "title": p.title, "text": p.text} for p in passages]
        corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
        folder = tmp_path / "index"
        build_in_milvus(str(corpus), folder, settings, target, device="cpu", **options)
        return folder

    return build


def test_odd_ids_come_back_and_are_no_expressions(build):
    passages = [Passage(id_, "", f"text {n}") for n, id_ in enumerate(ODD_IDS)]
    folder = build(*passages, Passage("35", "", "bystander"))
    index = Retriever.open(folder, device="cpu").index
    assert index.ids == sorted([*ODD_IDS, "35"])
    assert index.passages(ODD_IDS) == passages
    for left, id_ in enumerate(reversed(ODD_IDS)):
        assert delete_passages(folder, [id_]).deleted == 1
        assert len(index) == len(ODD_IDS) - left
    assert Retriever.open(folder, device="cpu").index.ids == ["35"]


def test_passages_are_added_replaced_and_deleted(build, tmp_path, run_module):
    folder = build(Passage("a", "", "apple"), Passage("b", "", "bee"))
    assert add_passages(folder, [Passage("c", "", "cedar")])[1:3] == (1, 0)
    with pytest.raises(ValueError, match="has a passage 'b' already; `update` replaces it"):
        add_passages(folder, [Passage("b", "", "bark"), Passage("d", "", "dune")])
    changed = update_passages(folder, [Passage("b", "", "bark"), Passage("d", "", "dune")])
    assert (changed.added, changed.replaced) == (1, 1)
    with pytest.raises(ValueError, match=r"no passage 'x' \(of 1 unknown ids"):
        delete_passages(folder, ["x", "a"])
    done = run_module("retrieval.index", "delete", folder, "x", "a", "--ignore-unknown")
    assert done.stdout == f"{folder}: 1 deleted, 1 unknown; 3 passages\n"
    opened = Retriever.open(folder, device="cpu")
    assert opened.index.ids == ["b", "c", "d"]
    assert opened.index.manifest.passages == 3
    assert opened.index.passages(["b"])[0].text == "bark"
    (hits,) = opened.search("bark", 9)
    assert (hits[0].id, len(hits)) == ("b", 3)
    delete_passages(folder, opened.index.ids)
    assert (len(opened.index), opened.search("bark", 9)) == (0, [[]])
    with pytest.raises(ValueError, match="lies in Milvus, which compacts by itself"):
        compact_index(folder)
    found = run_module("retrieval.index", "verify", folder)
    assert (found.returncode, "lies in Milvus" in found.stderr) == (2, True)


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["write", "accept", "build_index", "drop"])
def test_a_killed_build_keeps_the_old_index_and_is_resumed(build, monkeypatch, step):
    old = [Passage(f"old{n}", "", f"old {n}") for n in range(3)]
    new = [Passage(f"new{n}", "", f"new {n}") for n in range(40)]
    folder = build(*old)
    replaced = MilvusManifest.read(folder).collection
    with monkeypatch.context() as patched:

        def killed(*_):
            raise _Killed

        if step == "write":
            put = Collection.upsert

            def half(collection, passages, vectors):
                put(collection, passages[:3], vectors[:3])
                raise _Killed

            patched.setattr(Collection, "upsert", half)
        else:
            owner = MilvusWriter if step == "accept" else Collection
            patched.setattr(owner, step, killed)
        with pytest.raises(_Killed):
            build(*new, overwrite=True)
    if step != "drop":  # the new one is whole by then
        assert Retriever.open(folder, device="cpu").index.ids == [p.id for p in old]
        if step == "build_index":  # else there is no whole shard, and nothing to ask about
            with pytest.raises(ValueError, match="holds an unfinished build; --resume goes on"):
                build(*new)
        with pytest.raises(ValueError, match="had another settings; repeat its options"):
            build(*new, target=MilvusTarget(index_type="HNSW"), resume=True)
        if step == "build_index":
            with pytest.raises(ValueError, match=r"corpus has changed .* \(shard 0 differs\)"):
                build(*old, resume=True)
        build(*new, resume=True)
    else:
        with pytest.raises(ValueError, match="is whole: there is nothing to resume"):
            build(*new, resume=True)
    opened = Retriever.open(folder, device="cpu").index
    assert opened.ids == sorted(p.id for p in new)
    assert not (folder / "building").exists()
    with pytest.raises(ValueError, match=f"has no collection {replaced}; build it again"):
        Collection(opened.manifest.target.address(folder), replaced)


def test_what_milvus_has_no_place_for(build):
    with pytest.raises(ValueError, match=r"the text of passage 'long' has 70,000 bytes, Milvus ke"):
        build(Passage("short", "", "text"), Passage("long", "", "x" * 70_000))


def test_a_server_that_is_not_there(build):
    with pytest.raises(ValueError, match=r"Milvus at http://127\.0\.0\.1:1: .*server unavailable"):
        build(Passage("a", "", "text"), target=MilvusTarget("http://127.0.0.1:1"))


def test_a_folder_that_is_not_ours(build, tmp_path, made_index, made_corpus, settings):
    with pytest.raises(ValueError, match="holds an index of files; name another folder"):
        build_in_milvus(str(made_corpus), made_index, settings, MilvusTarget())
    folder = tmp_path / "index"
    (folder / "building").mkdir(parents=True)
    (folder / "building" / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="building is in the way"):
        build(Passage("a", "", "text"))
    (folder / "building" / "note.txt").unlink()
    build(Passage("a", "", "text"))
    with pytest.raises(ValueError, match="already holds an index; --overwrite replaces it"):
        build(Passage("a", "", "text"))


def test_the_commands(tmp_path, made_corpus, tiny_encoder, run_module):
    folder = tmp_path / "index"
    command = ["build", made_corpus, "--encoder", tiny_encoder, "--device", "cpu", "--out", folder]
    refused = run_module("retrieval.index", *command, "--uri", "milvus.db")
    assert (refused.returncode, "are for --backend milvus" in refused.stderr) == (2, True)
    built = run_module(
        "retrieval.index", *command, "--backend", "milvus", "--index-type", "IVF_SQ8"
    )
    assert "milvus     IVF_SQ8, collection blockseek_" in built.stdout
    found = run_module("retrieval.index", "search", folder, "title 7", "-k", "3", "--json")
    assert len(json.loads(found.stdout)["hits"]) == 3
