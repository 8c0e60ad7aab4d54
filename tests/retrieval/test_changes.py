"""An index that changes: in Python, and by `python -m retrieval.index`."""

import json
import shutil

import pytest

from index.dense_index import DenseIndex
from index.disk.files import only_writer
from index.manifest.formats import digest_of
from index.manifest.manifest import Manifest
from index.verify import verify
from retrieval import (
    Encoder,
    IndexSettings,
    Passage,
    Retriever,
    add_passages,
    build_index,
    compact_index,
    delete_passages,
    update_passages,
)
from retrieval.adapter.filters import threshold_filter
from retrieval.corpora.records import Skipped

NEW = [Passage("n1", "", "a new text"), Passage("n2", "New", "another new text")]


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return Encoder.load(str(tiny_encoder), device="cpu")


@pytest.fixture
def index(made_index, tmp_path):
    return shutil.copytree(made_index, tmp_path / "index")


def _counts(changed):
    return {
        name: count for name, count in changed._asdict().items() if count and name != "manifest"
    }


def test_passages_are_added_replaced_and_deleted(index, encoder):
    changed = add_passages(index, iter(NEW), encoder=encoder)
    assert _counts(changed) == {"added": 2}
    assert changed.manifest == Manifest.read(index)
    newer = [NEW[1]._replace(text="the text that replaces it"), Passage("n3", "", "word " * 50)]
    changed = update_passages(index, newer, encoder=encoder)
    assert _counts(changed) == {"added": 1, "replaced": 1}
    assert changed.manifest.truncated == 5
    assert _counts(delete_passages(index, ["n1", "p07", "n1"])) == {"deleted": 2}
    retriever = Retriever.open(index, encoder=encoder)
    assert retriever.index.ids == [*(f"p{n:02d}" for n in range(60) if n != 7), "n2", "n3"]
    (hits,) = retriever.search(["the text that replaces it"], 100)
    assert len(hits) == len({hit.id for hit in hits}) == 61
    assert retriever.passages(hits)[[hit.id for hit in hits].index("n2")] == newer[0]
    # The segment of `n1` and the first `n2` went with the last of them.
    assert _counts(compact_index(index)) == {"dropped": 1, "merged": 2}
    compacted = Retriever.open(index, encoder=encoder)
    assert compacted.search(["the text that replaces it"], 100) == [hits]
    assert verify(index) == ([], 1.0)
    again = compact_index(index)
    assert (again.manifest.changes, _counts(again)) == (4, {})


def test_what_is_added_is_encoded_as_a_build_does(made_corpus, made_index, tmp_path, encoder):
    """Shard by shard of the same passages: the same vectors, so the same hits to the last bit."""
    lines = made_corpus.read_text().splitlines(keepends=True)
    for name, part in (("first", lines[:32]), ("rest", lines[32:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(part))
    settings = IndexSettings(encoder=encoder.record.name, shard_size=16)
    build_index(str(tmp_path / "first.jsonl"), tmp_path / "index", settings, device="cpu")
    changed = add_passages(tmp_path / "index", str(tmp_path / "rest.jsonl"), device="cpu")
    assert [len(segment.shards) for segment in changed.manifest.segments] == [2, 2]
    assert changed.manifest.truncated == 4
    queries = encoder.encode_queries(["text 7", "title 3", "word"])
    whole, grown = DenseIndex.open(made_index), DenseIndex.open(tmp_path / "index")
    assert grown.search(queries, 60) == whole.search(queries, 60)
    assert compact_index(tmp_path / "index").manifest.segments[0].shards == tuple(
        whole.manifest.segments[0].shards
    )


def test_an_id_that_is_live_is_named_and_nothing_is_added(index, encoder):
    before = sorted(index.rglob("*"))
    manifest = Manifest.read(index)
    with pytest.raises(ValueError, match="has a passage 'p03' already; `update` replaces it"):
        add_passages(
            index, [*NEW, *(Passage(f"x{n}", "", "text") for n in range(20)),
                    Passage("p03", "", "text"), Passage("p01", "", "text")], encoder=encoder
        )  # fmt: skip
    assert Manifest.read(index) == manifest
    assert sorted(index.rglob("*")) == before
    delete_passages(index, ["p03"])
    add_passages(index, [Passage("p03", "", "text")], encoder=encoder)
    assert DenseIndex.open(index).ids[-1] == "p03"


def test_unknown_ids_are_told_or_counted(index):
    manifest = Manifest.read(index)
    with pytest.raises(ValueError, match=r"has no passage 'q1' \(of 2 unknown ids"):
        delete_passages(index, ["p01", "q1", "q2", "q1"])
    assert Manifest.read(index) == manifest
    changed = delete_passages(index, ["p01", "q1", "q2", "q1"], ignore_unknown=True)
    assert _counts(changed) == {"deleted": 1, "unknown": 2}
    changed = delete_passages(index, ["q1"], ignore_unknown=True)
    assert (_counts(changed), changed.manifest.changes) == ({"unknown": 1}, 1)
    with pytest.raises(ValueError, match="has no passage 'p01'"):
        delete_passages(index, ["p01"])


@pytest.mark.parametrize(
    ("ids", "kind", "message"),
    [
        ("p01", TypeError, "ids is a str, wanted a list of strings"),
        ([1], TypeError, "the id is 1, wanted a string"),
        (["a\ud800"], ValueError, "the id 'a.*' has half of a surrogate pair"),
    ],
)
def test_what_are_no_ids(index, ids, kind, message):
    with pytest.raises(kind, match=message):
        delete_passages(index, ids)


@pytest.mark.parametrize(
    ("passages", "kind", "message"),
    [
        ([Passage("two words", "", "text")], ValueError, "passage 1: id 'two words' has white sp"),
        ([NEW[0], NEW[1], NEW[0]], ValueError, "passage 3: id 'n1' occurred before"),
        ([NEW[0], Passage("n9", "", " ")], ValueError, "passage 2: passage 'n9' has no text"),
        ([], ValueError, "the corpus 'passages' has no passages"),
        ([("a", "b")], TypeError, r"passage 1 is \('a', 'b'\), wanted a Passage of three strings"),
        ([("a", "b", 3)], TypeError, "wanted a Passage of three strings"),
        (None, TypeError, "corpus is None, wanted the name of a corpus, or passages"),
    ],
)
@pytest.mark.parametrize("change", [add_passages, update_passages])
def test_bad_passages_are_told_and_nothing_is_added(
    index, encoder, change, passages, kind, message
):
    before = sorted(index.rglob("*"))
    with pytest.raises(kind, match=message):
        change(index, passages, encoder=encoder)
    assert sorted(index.rglob("*")) == before


def test_skipped_records_are_counted_in_the_manifest(index, encoder):
    bad = [Passage("n9", "", " "), NEW[0], NEW[0]]
    skipped = Skipped()
    changed = add_passages(index, bad, encoder=encoder, skipped=skipped)
    assert _counts(changed) == {"added": 1, "skipped": 2}
    assert (changed.manifest.skipped, skipped.count) == (2, 2)
    changed = update_passages(index, bad, encoder=encoder, skipped=skipped)
    assert _counts(changed) == {"replaced": 1, "skipped": 2}
    assert (changed.manifest.skipped, skipped.count) == (4, 4)


def test_another_encoder_is_refused_as_in_a_search(index):
    with pytest.raises(ValueError, match=r"was built by encoder '.*encoder', not by 'minilm'"):
        add_passages(index, NEW, encoder="minilm", device="cpu")
    assert len(Manifest.read(index).segments) == 1


def test_a_folder_that_is_no_index_is_left_as_it_is(tmp_path):
    for change in (
        lambda: add_passages(tmp_path, NEW),
        lambda: delete_passages(tmp_path, ["a"]),
        lambda: compact_index(tmp_path),
    ):
        with pytest.raises(ValueError, match="is no index"):
            change()
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_told_before_a_model_loads(index, monkeypatch):
    monkeypatch.setattr(Encoder, "load", lambda *_, **__: pytest.fail("loaded"))
    with only_writer(index):
        for change in (
            lambda: add_passages(index, NEW),
            lambda: delete_passages(index, ["p01"]),
            lambda: compact_index(index),
        ):
            with pytest.raises(ValueError, match=r"another process is writing in .*since 2"):
                change()


def test_an_index_of_which_all_is_deleted_finds_nothing_and_can_grow(index, encoder):
    delete_passages(index, DenseIndex.open(index).ids)
    retriever = Retriever.open(index, encoder=encoder)
    assert retriever.search(["text"], 5, threshold_filter(0.1)) == [[]]
    assert compact_index(index).manifest.segments == ()
    add_passages(index, NEW, encoder=encoder)
    assert {hit.id for hit in Retriever.open(index, encoder=encoder).search("text")[0]} == {
        "n1", "n2",
    }  # fmt: skip


def _signed(values):
    """A manifest with the digest of what it holds, as a stranger can make it."""
    unsigned = {name: value for name, value in values.items() if name != "sha256"}
    return json.dumps(unsigned | {"sha256": digest_of(unsigned)})


def test_settings_by_a_stranger_are_checked(index, encoder):
    path = index / "manifest.json"
    values = json.loads(path.read_text())
    for shard_size, message in (("x", "wanted int"), (0, "wanted at least 1")):
        path.write_text(_signed(values | {"settings": {"shard_size": shard_size}}))
        with pytest.raises(ValueError, match=rf"manifest\.json is damaged .*shard_size.*{message}"):
            add_passages(index, NEW, encoder=encoder)
    path.write_text(_signed(values | {"settings": {"of another version": 1}}))
    assert add_passages(index, NEW, encoder=encoder).added == 2


def test_compact_takes_the_kind_of_the_build_or_that_it_is_told(index, encoder):
    add_passages(index, NEW, encoder=encoder)
    changed = compact_index(index, faiss="SQ8")
    (segment,) = changed.manifest.segments
    assert (segment.faiss_factory, segment.passages) == ("SQ8", 62)
    assert compact_index(index, faiss="SQ8").manifest == changed.manifest
    with pytest.raises(ValueError, match="FAISS can't build 'What' over 62 vectors"):
        compact_index(index, faiss="What")
    assert Manifest.read(index) == changed.manifest
    delete_passages(index, ["n1"])
    assert compact_index(index).manifest.segments[0].faiss_factory == "Flat"


def test_the_commands(run_module, index, tmp_path):
    def run(*arguments, stdin=""):
        found = run_module("retrieval.index", *arguments, stdin=stdin)
        assert found.returncode == 0, found.stderr
        return found.stdout

    corpus = tmp_path / "new.tsv"
    corpus.write_text("n1\ta new text\nn2\n")
    found = run_module("retrieval.index", "add", index, corpus, "--skip-bad", "--device", "cpu")
    assert found.stdout == f"{index}: 1 added, 1 skipped; 61 passages in 2 segments\n"
    assert f"skipped {corpus}:2: " in found.stderr
    corpus.write_text("n1\tanother text\nn3\ta third\n")
    counts = json.loads(run("update", index, corpus, "--json"))
    assert counts == {
        "added": 1, "replaced": 1, "deleted": 0, "skipped": 0, "unknown": 0, "dropped": 0,
        "merged": 0, "passages": 62, "segments": 2, "deleted_rows": 0,
    }  # fmt: skip
    left = "deleted (compact frees their place)"
    assert run("delete", index, "p01", "p02") == (
        f"{index}: 2 deleted; 60 passages in 2 segments, 2 {left}\n"
    )
    (tmp_path / "ids").write_text("p03\n\nq9\n")
    assert run("delete", index, "--ids", tmp_path / "ids", "--ignore-unknown") == (
        f"{index}: 1 deleted, 1 unknown; 59 passages in 2 segments, 3 {left}\n"
    )
    run("delete", index, stdin="p04\r\n p05 \n")
    rows = dict(line.split(maxsplit=1) for line in run("info", index).splitlines())
    assert (rows["passages"], rows["skipped"]) == ("57", "1 bad records")
    assert rows["deleted"] == "5 (compact frees their place)"
    assert rows["changes"] == "5 since the build"
    assert rows["truncated"] == "at most 4 passages longer than 32 tokens"
    assert rows["recall@10"].endswith("(60 mixed vectors), where it is lowest")
    assert rows["data-0001"] == "55 of 60 passages live, Flat, recall@10 1.0000"
    assert rows["data-0003"] == "2 of 2 passages live, Flat, recall@10 1.0000"
    assert json.loads(run("info", index, "--json"))["passages"] == 57
    assert "whole; recall@10 1.0000" in run("verify", index)
    found = run_module("retrieval.index", "search", index, "another text", "-k", 100, "--json")
    assert "note: the index holds only 57 passages" in found.stderr
    hits = [hit["id"] for hit in json.loads(found.stdout)["hits"]]
    assert len(hits) == 57
    assert not {"p01", "p02", "p03", "p04", "p05"} & set(hits)
    assert run("compact", index) == (
        f"{index}: 5 dropped, 2 segments merged; 57 passages in 1 segment\n"
    )
    assert run("compact", index) == f"{index}: nothing to do; 57 passages in 1 segment\n"
    assert sorted(path.name for path in index.iterdir()) == [".lock", "data-0004", "manifest.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["delete"], "no id: give one after the index, with --ids, or on stdin"),
        (["delete", "p01", "--ids", "x"], "ids on the command line and --ids exclude each other"),
        (["delete", "--ids", "nowhere"], "nowhere does not exist"),
        (["delete", "q1"], "has no passage 'q1'"),
        (["add", "nowhere.tsv"], "nowhere.tsv does not exist; a corpus is"),
        (["add", "nowhere.tsv", "--batch-size", "0"], "--batch-size is 0, wanted at least 1"),
        (["compact", "--faiss", "What"], "FAISS can't build 'What'"),
    ],
)
def test_bad_commands(run_module, index, arguments, message):
    command, *rest = arguments
    found = run_module("retrieval.index", command, index, *rest)
    assert found.returncode == 2
    assert found.stderr.startswith("error: ")
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert (found.stdout, Manifest.read(index).changes) == ("", 0)
