"""An index of documents in chunks: where each stands, and what a change does to all of them."""

import json
import shutil
from dataclasses import replace

import pytest

from index.dense_index import DenseIndex
from index.manifest.manifest import Manifest
from index.verify import verify
from index.writing.change import IndexChange
from index.writing.writer import IndexWriter
from retrieval import (
    Encoder,
    IndexSettings,
    Passage,
    Retriever,
    add_passages,
    build_index,
    change_source,
    chunks,
    compact_index,
    delete_passages,
    update_passages,
)
from retrieval.adapter.filters import threshold_filter
from retrieval.chunks import Chunk, chunk_of
from retrieval.progress import encoding_progress

SENTENCES = [f"Sentence number {n} says word{n} and nothing else." for n in range(40)]
DOCUMENTS = [
    Passage("long", "Title", " ".join(SENTENCES)),
    Passage("one", "", "One short sentence."),
    Passage("title-only", "Nothing but a title", "\n "),
    Passage("chinese", "", "蜂蜜是甜的。" * 12),
    Passage("emoji", "", "👩🏽‍🚀🇩🇪 flies é. " * 15),
    Passage("a", "", " ".join(SENTENCES[:9])),
    Passage("a#0-5", "", "Its id looks like that of a chunk. " * 6),
]
YEARS = {document.id: 2000 + n for n, document in enumerate(DOCUMENTS)}


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return Encoder.load(str(tiny_encoder), device="cpu")


@pytest.fixture(scope="module")
def settings(tiny_encoder):
    return IndexSettings(
        encoder=str(tiny_encoder), shard_size=8, chunk=20, overlap=5, keep=("year",)
    )


def _corpus(path, documents):
    rows = [
        {"_id": d.id, "title": d.title, "text": d.text, "year": YEARS.get(d.id)} for d in documents
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def built(tmp_path_factory, settings):
    folder = tmp_path_factory.mktemp("chunks")
    build_index(_corpus(folder / "c.jsonl", DOCUMENTS), folder / "index", settings, device="cpu")
    return folder / "index"


@pytest.fixture
def index(built, tmp_path):
    return shutil.copytree(built, tmp_path / "index")


def _by_document(index):
    found = {}
    for id_ in index.ids:
        found.setdefault(chunk_of(id_).document, []).append(chunk_of(id_))
    return found


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_chunk_is_the_text_of_its_document_at_its_place(built, encoder):
    index = DenseIndex.open(built)
    found = _by_document(index)
    assert list(found) == [document.id for document in DOCUMENTS]
    count = encoder.token_counter()
    for document in DOCUMENTS:
        chunks = found[document.id]
        covered = set()
        for chunk, passage in zip(chunks, index.passages([c.id for c in chunks]), strict=True):
            assert passage.text == document.text[chunk.start : chunk.end]
            assert (passage.title, passage.metadata) == (
                document.title,
                {"year": YEARS[document.id]},
            )
            assert count([passage.text])[0] <= 20
            covered |= set(range(chunk.start, chunk.end))
        assert all(n in covered or c.isspace() for n, c in enumerate(document.text))
    assert len(found["long"]) > 10
    assert len(found["chinese"]) > 2
    # No emoji of several code points is cut: each chunk begins where one does.
    assert all(DOCUMENTS[4].text[c.start] in "👩🇩f" for c in found["emoji"])
    assert found["one"] == [Chunk("one", 0, 19)]
    assert found["title-only"] == [Chunk("title-only", 0, 2)]
    assert verify(built).faults == []


def test_what_is_no_chunk_has_no_document():
    assert chunk_of("a#0-5#3-19") == Chunk("a#0-5", 3, 19)
    for id_ in ("a", "a#1", "#1-2", "a#x-2", "a#1-2 "):
        with pytest.raises(ValueError, match="is no chunk's id"):
            chunk_of(id_)


def test_a_stopped_build_goes_on_to_the_same_bytes(built, tmp_path, settings, monkeypatch):
    corpus = _corpus(tmp_path / "c.jsonl", DOCUMENTS)
    accept = IndexWriter.accept

    def stopped(writer, shard):
        if len(writer.shards) == 2:
            raise KeyboardInterrupt
        accept(writer, shard)

    monkeypatch.setattr(IndexWriter, "accept", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_index(corpus, tmp_path / "index", settings, device="cpu")
    monkeypatch.undo()
    other = replace(settings, overlap=4)
    with pytest.raises(ValueError, match="another settings"):
        build_index(corpus, tmp_path / "index", other, device="cpu", resume=True)
    build_index(corpus, tmp_path / "index", settings, device="cpu", resume=True)
    named = {"manifest.json", ".lock"}  # these name the corpus's file, or the process
    found, wanted = _files(tmp_path / "index"), _files(built)
    assert {k: v for k, v in found.items() if k not in named} == {
        k: v for k, v in wanted.items() if k not in named
    }


def test_added_documents_are_found_as_in_one_build(tmp_path, built, settings, encoder, monkeypatch):
    monkeypatch.setattr(change_source, "_MOST_CHARACTERS", 300)  # a few documents at a time
    # As many chunks as fill two shards, so that what is added begins one.
    first = [Passage("f", "", " ".join(SENTENCES[:32]), {"year": 1})]
    folder = tmp_path / "index"
    build_index(_corpus(tmp_path / "f.jsonl", first), folder, settings, device="cpu")
    rest = [document._replace(metadata={"year": YEARS[document.id]}) for document in DOCUMENTS]
    changed = add_passages(folder, iter(rest), encoder=encoder)
    assert (changed.added, changed.replaced, changed.skipped) == (len(rest), 0, 0)
    whole, parts = DenseIndex.open(built), DenseIndex.open(folder)
    assert parts.ids[-len(whole) :] == whole.ids
    assert parts.passages(whole.ids) == whole.passages(whole.ids)
    delete_passages(folder, ["f"])
    queries = ["word7 and word8", "蜂蜜"]
    for mode in ("dense", "lexical", "hybrid"):
        found, wanted = (
            Retriever.open(each, encoder=encoder).search(queries, 40, mode=mode)
            for each in (folder, built)
        )
        if mode == "dense":
            assert found == wanted
        assert [h.id for hits in found for h in hits] == [h.id for hits in wanted for h in hits]


def test_an_update_replaces_all_chunks_in_one_commit(index, encoder):
    before = _by_document(DenseIndex.open(index))
    changed = update_passages(
        index,
        [Passage("long", "", "It is short now."), Passage("new", "", " ".join(SENTENCES[:8]))],
        encoder=encoder,
    )
    assert (changed.added, changed.replaced, changed.manifest.changes) == (1, 1, 1)
    after = _by_document(DenseIndex.open(index))
    assert after.pop("long") == [Chunk("long", 0, 16)]
    assert len(after.pop("new")) > 1
    del before["long"]
    assert after == before
    # The same offsets again: a chunk's id may be one that goes in the same commit.
    update_passages(index, [DOCUMENTS[5]], encoder=encoder)
    assert _by_document(DenseIndex.open(index))["a"] == before["a"]
    compact_index(index)
    assert verify(index).faults == []


@pytest.mark.parametrize("equal_hashes", [False, True])
def test_ids_are_read_once_however_many_batches_a_change_has(
    index, encoder, monkeypatch, equal_hashes
):
    """Of documents whose names have one hash the names decide."""
    if equal_hashes:
        monkeypatch.setattr(chunks, "hash", lambda name: 7, raising=False)
    reads, live_ids = [], IndexChange.live_ids
    monkeypatch.setattr(IndexChange, "live_ids", lambda self: reads.append(1) or live_ids(self))
    before = _by_document(DenseIndex.open(index))
    new = [Passage(f"n{n}", "", "Short.") for n in range(17)]
    changed = update_passages(index, [DOCUMENTS[5], *new, DOCUMENTS[1]], encoder=encoder)
    assert (changed.added, changed.replaced, len(reads)) == (17, 2, 1)
    wanted = before | {document.id: [Chunk(document.id, 0, 6)] for document in new}
    assert _by_document(DenseIndex.open(index)) == wanted


def test_a_document_that_is_there_is_not_added(index, encoder):
    # Not one of its chunks would have the id of one that is live.
    other = [Passage("new", "", "Fresh."), Passage("a", "", "Another text.")]
    with pytest.raises(ValueError, match="has a document 'a' already; `update` replaces it"):
        add_passages(index, other, encoder=encoder)
    assert Manifest.read(index).changes == 0
    add_passages(index, [Passage("a#0", "", "Looks near.")], encoder=encoder)


def test_delete_takes_all_chunks_of_a_document_and_of_no_other(index):
    before = _by_document(DenseIndex.open(index))
    changed = delete_passages(index, ["a", "long", "a"])
    assert (changed.deleted, changed.manifest.changes) == (2, 1)
    assert changed.manifest.deleted == len(before.pop("a")) + len(before.pop("long"))
    assert _by_document(DenseIndex.open(index)) == before
    for id_ in ("a", "one#0-19"):  # gone; a chunk, which goes with its document
        with pytest.raises(ValueError, match=rf"has no document '{id_}' \(of 1 unknown ids"):
            delete_passages(index, [id_])
    assert delete_passages(index, ["a", "one"], ignore_unknown=True)[3:6] == (1, 0, 1)


def test_conditions_and_filters_see_chunks(built, encoder):
    retriever = Retriever.open(built, encoder=encoder)
    (hits,) = retriever.search("word1", 100, where="year = 2005")
    assert {chunk_of(hit.id).document for hit in hits} == {"a"}
    (found,) = retriever.search("word1", 3, threshold_filter(0.5), group="best")
    (chunks,) = retriever.search("word1", 100, threshold_filter(0.5))
    assert {hit.id for hit in found} <= {chunk_of(hit.id).document for hit in chunks}
    assert retriever.search("word1", 3, threshold_filter(1.1), group="best") == [[]]


def test_a_chunk_is_as_relevant_as_its_document_to_a_filter(built, tmp_path, run_module):
    (tmp_path / "q.tsv").write_text("q\tword7 and word8\n")
    (tmp_path / "qrels.txt").write_text("q 0 long 1\nq 0 one 0\n")
    labels = ("--queries", tmp_path / "q.tsv", "--qrels", tmp_path / "qrels.txt", "-k", "100")
    found = run_module("retrieval.filter", "report", built, *labels, "--filter", "-1", "--json")
    assert found.returncode == 0, found.stderr
    chunks = len(_by_document(DenseIndex.open(built))["long"])
    assert json.loads(found.stdout)["relevant_hits"] == chunks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 3}, "overlap is 3 tokens of chunks: say how long they are"),
        ({"chunk": 5, "overlap": 5}, "overlap is 5, wanted 0 to 4"),
        ({"chunk": 5, "overlap": -1}, "overlap is -1, wanted 0 to 4"),
        ({"chunk": 0}, "chunk is 0, wanted at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        IndexSettings(**options)


def test_chunks_longer_than_the_encoder_reads_are_refused(tmp_path, tiny_encoder):
    corpus = _corpus(tmp_path / "c.jsonl", DOCUMENTS[:1])
    settings = IndexSettings(encoder=str(tiny_encoder), chunk=33)
    with pytest.raises(ValueError, match=r"chunk is 33 tokens, encoder .* reads 32"):
        build_index(corpus, tmp_path / "index", settings, device="cpu")
    assert not (tmp_path / "index").exists()


def test_the_bar_counts_chunks_where_the_source_counts_documents():
    from retrieval.chunks import Cut, cut_documents
    from retrieval.corpora.reading import Reading

    reading = Reading(limit=4)
    texts = [Passage(str(n), "", "One. Two. Three.") for n in range(4)]

    def words(some):
        return [len(text.split()) for text in some]

    with encoding_progress(reading) as advance:
        made = list(cut_documents(texts[:2], words, Cut(1, 0), reading))
        advance(len(made))
    assert (len(made), reading.expected(6)) == (6, 12)


def test_the_commands(run_module, tmp_path, tiny_encoder):
    out = tmp_path / "index"
    build = ("retrieval.index", "build", _corpus(tmp_path / "c.jsonl", DOCUMENTS), "--out", out)
    build = (*build, "--encoder", tiny_encoder)
    found = run_module(*build, "--chunk", "8", "--overlap", "9")
    assert (found.returncode, found.stderr) == (2, "error: overlap is 9, wanted 0 to 7\n")
    found = run_module(*build, "--chunk", "20", "--overlap", "5")
    rows = dict(line.split(maxsplit=1) for line in found.stdout.splitlines())
    assert rows["chunks"] == "of at most 20 tokens, overlapping by 5"

    search = ("retrieval.index", "search", out, "word7", "-k", "2", "--mode", "lexical")
    (hits,) = [
        json.loads(line)["hits"] for line in run_module(*search, "--json").stdout.split("\n")[:1]
    ]
    assert all(hit["id"] == f"{hit['document']}#{hit['start']}-{hit['end']}" for hit in hits)
    grouped = json.loads(run_module(*search, "--json", "--group", "sum3").stdout)["hits"]
    assert sorted(hit["id"] for hit in grouped) == ["a", "long"]
    text = {document.id: document.text for document in DOCUMENTS}
    assert all(hit["text"] == text[hit["id"]][hit["start"] : hit["end"]] for hit in grouped)
    runs = [run_module(*search, "--trec", *more).stdout for more in ((), ("--group", "best"))]
    assert runs[0] == runs[1]
    assert sorted(line.split()[2] for line in runs[0].splitlines()) == ["a", "long"]

    (tmp_path / "new.tsv").write_text("a\tShort now.\nb\tNew.\n")
    found = run_module("retrieval.index", "update", out, tmp_path / "new.tsv")
    assert ": 1 documents added, 1 documents replaced; " in found.stdout
    assert " chunks in 2 segments" in found.stdout
    found = run_module("retrieval.index", "delete", out, "b")
    assert ": 1 documents deleted; " in found.stdout
