"""Every reader of every format: damaged files, ids that go through, formats that agree."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.formats.checks import id_fault, is_blank
from configs.formats.lines import json_lines
from configs.formats.qrels import read_qrels
from configs.formats.queries import read_queries
from configs.formats.runs import read_run
from eval.files.trec import write_qrels, write_run
from eval.files.udcg_examples import read_examples as read_contexts
from eval.measures.ranking import evaluate
from eval.measures.sessions import read_sessions
from index.records import Passage
from rerank.commands.passage_file import read_passages
from rerank.commands.query_file import read_batch
from rerank.commands.query_file import read_queries as read_requests
from rerank.examples.labelled import read_examples
from retrieval.corpora import load_collection, open_corpus
from retrieval.filter_labels import read_labels

ROWS = [
    {"_id": "p1", "title": "Pears", "text": "Ripe in öctober."},
    {"_id": "p2", "title": "", "text": "Rain."},
]
EXAMPLE = {"query": "q", "passages": [{"id": "a", "text": "t"}], "relevant": {"a": 1}}
CONTEXT = [{"question": "q", "passages": [{"text": "t", "is_relevant": True}]}]


def _jsonl(*rows: object) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    columns = {"id": ["p1", "p2"], "title": ["Pears", None], "text": ["Ripe.", "Rain."]}
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def _corpus(path: Path) -> object:
    return list(open_corpus(str(path)))


# name of a file -> its reader, a whole file of it
READERS = {
    "corpus.jsonl": (_corpus, _jsonl(*ROWS)),
    "corpus.tsv": (_corpus, "p1\tPears\tRipe ö.\np2\tRain.\n".encode()),
    "corpus.parquet": (_corpus, _parquet()),
    "queries.jsonl": (read_queries, _jsonl({"_id": "q1", "text": "wann?"})),
    "queries.tsv": (read_queries, b"q1\twhen?\nq2\twhere?\n"),
    "test.tsv": (read_qrels, b"query-id\tcorpus-id\tscore\nq1\tp1\t1\n"),
    "test.qrels": (read_qrels, b"q1 0 p1 1\nq1 0 p2 0\n"),
    "system.trec": (read_run, b"q1 Q0 p1 1 2.5 t\nq1 Q0 p2 2 -1e3 t\n"),
    "sessions.tsv": (read_sessions, b"session\tturn\tquery-id\ns\t1\tq1\n"),
    "train.jsonl": (read_examples, _jsonl(EXAMPLE)),
    "contexts.json": (read_contexts, json.dumps(CONTEXT, indent=2).encode()),
    "rank.jsonl": (read_passages, _jsonl(*ROWS)),
    "rank.tsv": (read_passages, b"p1\tPears\tRipe.\np2\tRain.\n"),
    "rank.txt": (read_passages, b'Ripe pears.\n{"text": "Rain."}\n'),
    "asked.jsonl": (lambda path: read_requests(path, None), _jsonl({"text": "wann?"})),
    "asked.txt": (lambda path: read_requests(path, None), b"when?\nwhere?\n"),
    "batch.jsonl": (read_batch, _jsonl({"query": "q", "passages": ["a", {"text": "b"}]})),
    "known.jsonl": (lambda path: read_labels(known_items=path), _jsonl({"query": "q", "id": "p"})),
}
bytes_of_a_line = st.sampled_from(
    [b"\0", b"\n", b"\r", b"\t", b"\xff", b"\xef\xbb\xbf", b'"', b"{", b"[" * 5000, b"9" * 5000]
)
edits = st.lists(
    st.tuples(
        st.floats(0, 1), st.integers(0, 9), st.one_of(bytes_of_a_line, st.binary(max_size=4))
    ),
    min_size=1,
    max_size=4,
)


def _edited(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for share, removed, added in changes:
        place = int(share * len(content))
        content = content[:place] + added + content[place + removed :]
    return content


def _read_or_refused(name: str, content: bytes, folder: Path) -> None:
    """One `ValueError` of one sentence that names the file, or a value."""
    path = folder / name
    path.write_bytes(content)
    refused: ValueError | None = None
    try:
        READERS[name][0](path)
    except ValueError as error:
        refused = error
    if refused is not None:
        assert str(path) in str(refused)
        assert type(refused) is ValueError, "an error of a library's own"


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read_packed_or_not_marked_or_not(name, tmp_path):
    read, content = READERS[name]
    results = []
    for bytes_ in (content, gzip.compress(content), b"\xef\xbb\xbf" + content):
        if name.endswith(".parquet") and bytes_ is not content:
            continue
        (tmp_path / name).write_bytes(bytes_)
        results.append(read(tmp_path / name))
    assert all(result == results[0] for result in results)
    assert results[0]


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), edits)
def test_random_bytes_and_random_edits_are_refused_or_read(tmp_path_factory, name, noise, changes):
    folder = tmp_path_factory.mktemp("damaged")
    whole = READERS[name][1]
    for content in (
        noise,
        _edited(whole, changes),
        _edited(gzip.compress(whole, mtime=0), changes),
    ):
        _read_or_refused(name, content, folder)


anything = st.text(st.characters(exclude_categories=()), min_size=1, max_size=12)
ids = anything.filter(lambda id_: not id_fault(id_))
texts = st.text(min_size=1, max_size=20).filter(
    lambda text: not is_blank(text) and not set(text) & set("\t\r\n\0")
)


@settings(max_examples=8, deadline=None)
@given(st.lists(ids, min_size=2, max_size=8, unique=True), st.lists(anything, max_size=3))
def test_ids_go_through_the_whole_path(tmp_path_factory, tiny_encoder, names, doubtful):
    """In a file, through index, search and a reranker, into a run and a measure: in = out."""
    from rerank.prompt.candidates import as_candidates
    from retrieval import IndexSettings, Retriever, build_index

    folder = tmp_path_factory.mktemp("ids")
    (folder / "qrels").mkdir()
    (folder / "corpus.jsonl").write_bytes(
        _jsonl(*({"_id": id_, "text": f"text {n}"} for n, id_ in enumerate(names)))
    )
    (folder / "queries.jsonl").write_bytes(_jsonl({"_id": names[0], "text": "text 1"}))
    write_qrels(folder / "qrels" / "test.tsv", {names[0]: dict.fromkeys(names, 1)})
    build_index(
        str(folder), folder / "index", IndexSettings(encoder=str(tiny_encoder)), device="cpu"
    )
    retriever = Retriever.open(folder / "index", device="cpu")
    collection = load_collection(str(folder))
    (hits,) = retriever.search(list(collection.queries.values()), k=99)
    assert {hit.id for hit in hits} == set(names)
    passages = retriever.passages(hits)
    assert [candidate.id for candidate in as_candidates(passages)] == [hit.id for hit in hits]
    run = {names[0]: {hit.id: hit.score for hit in hits}}
    write_run(folder / "run.trec", run, "t")
    assert read_run(folder / "run.trec") == run
    assert evaluate(collection.qrels, run, ["R@1000"]).means == {"R@1000": 1.0}
    for id_ in doubtful:
        if id_fault(id_):
            line = json.dumps({"_id": id_, "text": "t"})
            (folder / "corpus.jsonl").write_text(line)
            with pytest.raises(ValueError, match=r"corpus\.jsonl:1"):
                list(open_corpus(str(folder)))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(ids, texts, texts), min_size=1, max_size=5, unique_by=lambda row: row[0]),
    st.lists(st.integers(-3, 3), min_size=5, max_size=5),
)
def test_readers_of_one_format_agree(tmp_path_factory, rows, grades):
    folder = tmp_path_factory.mktemp("agree")
    wanted = [Passage(*row) for row in rows]
    tabs = "".join("\t".join(row) + "\n" for row in rows).encode()
    lines = _jsonl(*({"_id": i, "title": title, "text": text} for i, title, text in rows))
    columns = dict(zip(("id", "title", "text"), zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table(columns), folder / "corpus.parquet")
    for name, content in (("corpus.jsonl", lines), ("corpus.tsv", tabs)):
        (folder / name).write_bytes(content)
        (folder / f"{name}.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + content))
    for name in ("jsonl", "jsonl.gz", "tsv", "tsv.gz", "parquet"):
        assert list(open_corpus(str(folder / f"corpus.{name}"))) == wanted, name
    for name in ("jsonl", "jsonl.gz", "tsv", "tsv.gz"):
        found = read_passages(folder / f"corpus.{name}")
        assert [Passage(c.id, c.title, c.text) for c in found] == wanted, name
    assert [row for _, row in json_lines(folder / "corpus.jsonl.gz")] == [
        {"_id": i, "title": title, "text": text} for i, title, text in rows
    ]
    queries = {i: text for i, _, text in rows}
    (folder / "q.tsv").write_text("".join(f"{i}\t{t}\n" for i, t in queries.items()), newline="")
    assert read_queries(folder / "corpus.jsonl") == read_queries(folder / "q.tsv") == queries
    qrels = {"q": {i: grade for (i, _, _), grade in zip(rows, grades, strict=False)}}
    write_qrels(folder / "trec", qrels)
    beir = "".join(f"q\t{i}\t{grade}\n" for i, grade in qrels["q"].items())
    (folder / "beir.tsv").write_text(beir)
    assert read_qrels(folder / "trec") == read_qrels(folder / "beir.tsv") == qrels
    scores = {i: float(np.float32(len(t) / 7)) for i, _, t in rows}
    write_run(folder / "run.gz", {"q": scores}, "t")
    assert read_run(folder / "run.gz") == {"q": scores}
