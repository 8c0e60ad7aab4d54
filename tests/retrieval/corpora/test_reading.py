"""What is read of a corpus: fields that are kept, a limit, stdin, and how far it has come."""

import gzip
import io
import json
import sys
from datetime import UTC, date, datetime
from typing import NamedTuple

import ir_datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ir_datasets.datasets.base import Dataset
from ir_datasets.formats.base import BaseDocs

from index.manifest.columns import ColumnRecord, Columns
from index.records import Passage
from retrieval.corpora import open_corpus
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Skipped, checked


def _lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def _read(corpus, *names, needed=True, skipped=None, **options):
    reading = Reading(Columns(names), needed=needed, **options)
    return [each.metadata for each in open_corpus(str(corpus), skipped, reading)]


ROWS = [
    {"_id": "a", "text": "t", "year": 2021, "metadata": {"lang": "en", "year": 1}},
    {"_id": "b", "text": "t", "metadata": {"lang": "de", "more": [1]}, "tags": ["x"]},
    {"_id": "c", "text": "t", "title": "T", "year": None, "metadata": "none"},
]


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz", "beir/corpus.jsonl"])
def test_fields_of_json_and_of_beirs_nested_object_are_kept(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    content = _lines(ROWS).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    corpus = path.parent if name.startswith("beir") else path
    assert _read(corpus, "year", "lang", "title") == [
        {"year": 2021, "lang": "en", "title": None},
        {"year": None, "lang": "de", "title": None},
        {"year": None, "lang": None, "title": "T"},
    ]
    assert _read(corpus) == [{}, {}, {}]


def test_columns_of_parquet_are_kept_in_their_types(tmp_path):
    path = tmp_path / "c.parquet"
    zone = "Europe/Berlin"
    table = pa.table(
        {
            "id": ["a", "b"],
            "text": ["t", "t"],
            "year": pa.array([2021, None], pa.int16()),
            "lang": pa.array(["en", None]).dictionary_encode(),
            "raw": pa.array([b"x", None]),
            "score": pa.array([0.5, float("nan")], pa.float32()),
            "open": [True, None],
            "day": pa.array([date(2021, 3, 4), None], pa.date64()),
            "nano": pa.array([1_600_000_000_123_456_789, None], pa.timestamp("ns")),
            "seen": pa.array([datetime(2021, 1, 1, tzinfo=UTC), None], pa.timestamp("s", zone)),
            "tags": [["a"], ["b"]],
        }
    )
    pq.write_table(table, path)
    kept = {
        "year": 2021, "lang": "en", "raw": "x", "score": 0.5, "open": True,
        "day": date(2021, 3, 4), "nano": datetime(2020, 9, 13, 12, 26, 40, 123456),
        "seen": datetime(2021, 1, 1, tzinfo=UTC), "text": "t", "id": "a",
    }  # fmt: skip
    found = _read(path, *kept)
    assert found == [kept, dict.fromkeys(kept) | {"text": "t", "id": "b"}]
    assert found[0]["seen"].tzinfo is UTC
    with pytest.raises(ValueError, match=r"row 1: the field 'tags' is .*: a list, wanted"):
        _read(path, "tags")
    with pytest.raises(ValueError, match=r"c\.parquet has no field 'yaer' to keep: its columns"):
        _read(path, "year", "yaer")
    assert _read(path, "yaer", needed=False) == [{"yaer": None}] * 2


class _Document(NamedTuple):
    doc_id: str
    text: str
    date: str


class _Docs(BaseDocs):
    def docs_iter(self):
        return iter([_Document("1", "one", "2021-01-01"), _Document("2", "two", "")])

    def docs_cls(self):
        return _Document

    def docs_metadata(self):
        return {"count": 2}


def test_fields_of_ir_datasets_documents_are_kept():
    name = "blockseek-test/dated"
    ir_datasets.registry.register(name, Dataset(_Docs()))
    assert _read(name, "date") == [{"date": "2021-01-01"}, {"date": ""}]
    with pytest.raises(ValueError, match="dated has no field 'year' to keep: its documents have"):
        _read(name, "date", "year")
    assert _read(name, "year", needed=False) == [{"year": None}] * 2


def test_ir_datasets_has_counts_on_record(monkeypatch):
    monkeypatch.setattr(ir_datasets, "load", lambda _: Dataset(_Docs()))
    reading = Reading()
    next(open_corpus("blockseek-test/counted", reading=reading))
    assert reading.expected(1) == 2


def test_what_has_no_fields_says_so_unless_an_index_asks(tmp_path):
    path = tmp_path / "c.tsv"
    path.write_text("a\tt\n")
    for corpus in (path, "pydoc"):
        with pytest.raises(ValueError, match=rf"{corpus} has no field 'x' to keep: .* alone"):
            _read(corpus, "x")
    assert _read(path, "x", needed=False) == [{"x": None}]


def test_a_value_of_another_type_is_named_by_file_and_line_or_skipped(tmp_path):
    path = tmp_path / "c.jsonl"
    years = [2021, None, "2021", 2022, 7.5, True, {"a": 1}]
    path.write_text(
        _lines({"_id": str(n), "text": "t", "year": year} for n, year in enumerate(years))
    )
    with pytest.raises(
        ValueError, match=r"c\.jsonl:3: the field 'year' is '2021', a string; it was a whole number"
    ):
        _read(path, "year")
    skipped = Skipped()
    found = _read(path, "year", skipped=skipped)
    assert [each["year"] for each in found] == [2021, None, 2022, 7.5]
    assert skipped.count == 3
    assert skipped.examples[2].startswith(f"{path}:7: the field 'year' is {{'a': 1}}: a dict, want")


def test_nothing_is_learned_of_a_record_that_is_left_out():
    skipped, reading = Skipped(), Reading(Columns(["x", "y"]))
    passages = [
        Passage("a", "", "t"),
        Passage("a", "", "t", {"x": "of a repeated id"}),
        Passage("b", "", " ", {"x": "of an empty text"}),
        Passage("c", "", "t", {"x": "beside a bad one", "y": [1]}),
        Passage("c", "", "t", {"x": 3}),
    ]
    records = ((f"passage {n}", passage, "") for n, passage in enumerate(passages, 1))
    found = list(checked(records, skipped, reading))
    assert [each.metadata for each in found] == [{"x": None, "y": None}, {"x": 3, "y": None}]
    assert skipped.count == 3


@pytest.mark.parametrize("limit", [1, 3, 7, 8, 100])
def test_a_limit_counts_good_passages_and_reads_no_further(tmp_path, limit):
    """Counts in = indexed + skipped: of what was read."""
    path = tmp_path / "c.tsv"
    path.write_text("".join(f"p{n // 2}\tt\n" for n in range(16)))
    skipped, reading = Skipped(), Reading(limit=limit)
    kept = [each.id for each in open_corpus(str(path), skipped, reading)]
    assert kept == [f"p{n}" for n in range(min(limit, 8))]
    assert len(kept) + skipped.count == (2 * limit - 1 if limit <= 8 else 16)
    with pytest.raises(ValueError, match="limit is 0, wanted at least 1"):
        Reading(limit=0)


@pytest.mark.parametrize("packed", [False, True])
def test_json_lines_from_stdin(monkeypatch, packed):
    content = _lines(ROWS[:2]).encode() + b"{broken\n"
    stdin = io.TextIOWrapper(io.BytesIO(gzip.compress(content) if packed else content))
    monkeypatch.setattr(sys, "stdin", stdin)
    reading = Reading(Columns(["lang"]))
    passages = open_corpus("-", reading=reading)
    assert [next(passages).metadata["lang"] for _ in range(2)] == ["en", "de"]
    assert reading.expected(2) is None
    with pytest.raises(ValueError, match="stdin:3: broken JSON"):
        next(passages)


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz", "c.tsv", "c.parquet"])
def test_how_many_there_will_be_is_told_before_all_are_read(tmp_path, name):
    path, ids = tmp_path / name, [f"p{n:05d}" for n in range(20_000)]
    texts = [f"text {n * n}" for n in range(20_000)]
    if name == "c.parquet":
        pq.write_table(pa.table({"id": ids, "text": texts}), path)
    else:
        pairs = zip(ids, texts, strict=True)
        if name == "c.tsv":
            content = "".join(f"{id_}\t{text}\n" for id_, text in pairs)
        else:
            content = _lines({"_id": id_, "text": text} for id_, text in pairs)
        path.write_bytes(gzip.compress(content.encode()) if "gz" in name else content.encode())
    reading, limited = Reading(), Reading(limit=15_000)
    passages = open_corpus(str(path), reading=reading)
    for _ in range(10_000):
        next(passages)
    expected = reading.expected(10_000)
    assert (expected == 20_000) if name == "c.parquet" else (18_000 < expected < 22_000)
    assert 10_000 + sum(1 for _ in passages) == reading.expected(20_000) == 20_000
    assert limited.expected(0) == 15_000
    assert sum(1 for _ in open_corpus(str(path), reading=limited)) == 15_000
    assert limited.expected(15_000) == 15_000


def test_the_columns_of_an_index_are_taken_from_passages():
    known = [ColumnRecord("year", "integer")]
    reading = Reading(Columns(known=known))
    passages = [Passage("a", "", "t", {"year": 3}), Passage("b", "", "t")]
    records = ((f"passage {n}", passage, "") for n, passage in enumerate(passages, 1))
    assert [each.metadata for each in checked(records, None, reading)] == [
        {"year": 3}, {"year": None},
    ]  # fmt: skip
    bad = ("passage 7", Passage("a", "", "t", {"lang": "en"}), "")
    with pytest.raises(ValueError, match="passage 7: the field 'lang' is not kept: the index"):
        next(checked([bad], None, reading))
