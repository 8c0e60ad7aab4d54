import gzip
import hashlib
import json
import os
import subprocess
import sys

import ir_datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import GenericDoc, GenericQuery, TrecQrel, TrecQrels
from ir_datasets.formats.base import BaseDocs, BaseQueries

from configs.formats.queries import read_queries
from index.records import Passage
from retrieval.corpora import load_collection, open_corpus
from retrieval.corpora.records import Skipped

PASSAGES = [Passage("1", "Title", "one\u2028line"), Passage("zwei", "", "zweiter Text ü")]
ROWS = [{"_id": p.id, "title": p.title, "text": p.text} for p in PASSAGES]


def _lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.fixture(params=["", ".gz"])
def beir(request, tmp_path):
    folder, ending = tmp_path / "beir", request.param
    _write(folder / f"corpus.jsonl{ending}", _lines(ROWS))
    _write(folder / f"queries.jsonl{ending}", _lines([{"_id": "q", "text": "query"}]))
    _write(folder / f"qrels/test.tsv{ending}", b"query-id\tcorpus-id\tscore\nq\tzwei\t2\nq\t1\t0\n")
    return folder


def test_beir_folder(beir):
    assert list(open_corpus(str(beir))) == PASSAGES
    collection = load_collection(str(beir))
    assert collection.corpus == str(beir)
    assert collection.queries == {"q": "query"}
    assert collection.qrels == {"q": {"zwei": 2, "1": 0}}
    with pytest.raises(ValueError, match=r"has no qrels/dev\.tsv; its splits: test"):
        load_collection(str(beir), "dev")


@pytest.mark.parametrize(
    "row",
    [
        {"_id": "a", "text": "t"},
        {"id": "a", "contents": "t", "url": 3},
        {"docid": "a", "title": None, "text": "t"},
        {"_id": "a", "id": "b", "text": "t", "contents": "u"},
    ],
)
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_jsonl_fields(tmp_path, row, ending):
    path = _write(tmp_path / f"c{ending}", b"\n" + _lines([row]) + b"\r\n")
    assert list(open_corpus(str(path))) == [Passage("a", "", "t")]


@pytest.mark.parametrize("ending", [".tsv", ".tsv.gz"])
def test_tsv_of_two_and_three_columns(tmp_path, ending):
    path = _write(tmp_path / f"c{ending}", "7\ttext ü\r\n\n8\tTitle\ttext\n".encode())
    assert list(open_corpus(str(path))) == [
        Passage("7", "", "text ü"),
        Passage("8", "Title", "text"),
    ]


@pytest.mark.parametrize("names", [("_id", "text"), ("id", "contents"), ("docid", "text")])
def test_parquet(tmp_path, names):
    columns = {names[0]: [5, 6], names[1]: ["five", "six"], "title": ["Five", None], "x": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "c.parquet", row_group_size=1)
    wanted = [Passage("5", "Five", "five"), Passage("6", "", "six")]
    assert list(open_corpus(str(tmp_path / "c.parquet"))) == wanted


class _Docs(BaseDocs):
    def docs_iter(self):
        return iter([GenericDoc("1", "one"), GenericDoc("2", "two")])


class _Queries(BaseQueries):
    def queries_iter(self):
        return iter([GenericQuery("q", "query")])


class _File:
    def __init__(self, path):
        self.path_of_file = path

    def stream(self):
        return self.path_of_file.open("rb")


def test_an_ir_datasets_dataset(tmp_path):
    qrels = tmp_path / "qrels"
    qrels.write_text("q 0 2 1\n")
    name = "blockseek-test/made"
    ir_datasets.registry.register(name, Dataset(_Docs(), _Queries(), TrecQrels(_File(qrels), {})))
    assert list(open_corpus(name)) == [Passage("1", "", "one"), Passage("2", "", "two")]
    collection = load_collection(name)
    assert collection.queries == {"q": "query"}
    assert collection.qrels == {"q": {"2": 1}}
    assert TrecQrel._fields[:3] == ("query_id", "doc_id", "relevance")


def test_pydoc_is_large_unique_and_the_same_in_every_process(python_docs):
    assert len(python_docs) >= 10_000
    assert len({passage.id for passage in python_docs}) == len(python_docs)
    program = """
import hashlib
from retrieval.corpora import open_corpus
print(hashlib.sha256(repr(list(open_corpus("pydoc"))).encode()).hexdigest())
"""
    # Another seed for hashes: the order of a set must not reach the corpus.
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", program]
    other = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert other.stdout.strip() == hashlib.sha256(repr(python_docs).encode()).hexdigest()
    assert "json.dumps" in {passage.id for passage in python_docs}


def test_pydoc_of_named_packages():
    found = {passage.id: passage for passage in open_corpus("pydoc:tqdm")}
    assert "json.dumps" in found
    assert any(id_.startswith("tqdm.") for id_ in found)
    assert not any(id_.startswith("numpy.") for id_ in found)
    for name in ("no_such_package", "no.such.package", "tqdm,,json"):
        with pytest.raises(ValueError, match="no package of that name is installed"):
            list(open_corpus(f"pydoc:{name}"))


def test_a_byte_order_mark_is_no_text_and_gzip_is_known_by_its_bytes(tmp_path):
    mark = b"\xef\xbb\xbf"
    for name, content in (
        ("c.jsonl", _lines(ROWS)),
        ("c.tsv", "1\tTitle\tone\u2028line\n".encode()),
    ):
        plain = _write(tmp_path / name, mark + content)
        assert next(open_corpus(str(plain))) == PASSAGES[0]
        plain.write_bytes(gzip.compress(mark + content))
        assert next(open_corpus(str(plain))) == PASSAGES[0]
    queries = _write(tmp_path / "q.tsv", mark + b"q1\tfirst\n")
    assert read_queries(queries) == {"q1": "first"}


GOOD = b'{"_id": "a", "text": "t"}\n'
BAD_FILES = [
    ("c.jsonl", GOOD + b"{broken\n", r"c\.jsonl:2: broken JSON: .* at column 2"),
    ("c.jsonl", GOOD + b'{"_id": ' + b"1" * 5000 + b"}\n", r"c\.jsonl:2: broken JSON"),
    ("c.jsonl", GOOD + b'{"_id": "\xff", "text": "t"}\n', r"c\.jsonl:2: not UTF-8"),
    (
        "c.jsonl",
        GOOD + b'{"_id": "b", "text": "\\ud800"}\n',
        r"c\.jsonl:2: passage 'b': its text has half of a surrogate",
    ),
    ("c.jsonl.gz", GOOD + b"\n" + GOOD, r"c\.jsonl\.gz:3: id 'a' occurred before"),
    ("c.jsonl", GOOD + b'{"_id": "b", "text": " "}\n', r"c\.jsonl:2: passage 'b' has no text"),
    ("c.jsonl", GOOD + b'{"_id": "", "text": "t"}\n', r"c\.jsonl:2: the id is empty"),
    ("c.jsonl", GOOD + b'{"text": "t"}\n', r"c\.jsonl:2: no id: none of the fields _id, id, docid"),
    ("c.jsonl", GOOD + b'{"id": "b"}\n', r"c\.jsonl:2: no text: none of the fields text, contents"),
    (
        "c.jsonl",
        GOOD + b'{"id": true, "text": "t"}\n',
        r"c\.jsonl:2: the id is True, wanted a string",
    ),
    ("c.jsonl", GOOD + b'{"id": "b", "text": 3}\n', r"c\.jsonl:2: text is a int, wanted a string"),
    ("c.jsonl", GOOD + b"[1]\n", r"c\.jsonl:2: a list, wanted an object"),
    ("c.jsonl", GOOD + b'{"_id": null, "text": "t"}\n', r"c\.jsonl:2: no id: none of the fields"),
    ("c.jsonl", GOOD + b'{"_id": 1.5, "text": "t"}\n', r"c\.jsonl:2: the id is 1\.5, wanted"),
    ("c.jsonl", GOOD + b'{"_id": "b\\u0000", "text": "t"}\n', r"c\.jsonl:2: .* control character"),
    ("c.jsonl", GOOD + b'{"_id": "b c", "text": "t"}\n', r"c\.jsonl:2: id 'b c' has white space"),
    ("c.jsonl", GOOD + b'{"_id": "\\udc00", "text": "t"}\n', r"c\.jsonl:2: .* surrogate pair"),
    ("c.jsonl", GOOD + b'{"_id": "b", "text": "\\u200b\\ufeff\\u0301"}\n', "no character of it is"),
    ("c.jsonl", GOOD + b"[" * 100_000 + b"\n", r"c\.jsonl:2: JSON that nests too deeply"),
    ("c.jsonl", GOOD + b'{"_id": "b", "text": "t", "n": NaN}\n', r"c\.jsonl:2: .* NaN is no JSON"),
    ("c.tsv", b"a\tt\nb\0\tu\n", r"c\.tsv:2: id 'b\\x00' has a control character"),
    ("c.tsv", b"a\tt\nb\n", r"c\.tsv:2: 1 tab-separated columns"),
    ("c.tsv", b"a\tt\nb\t1\t2\t3\n", r"c\.tsv:2: 4 tab-separated columns"),
    ("c.tsv", b"a\tt\nb\t\xff\n", r"c\.tsv:2: not UTF-8"),
    ("c.tsv", b"a\tt\na\tu\n", r"c\.tsv:2: id 'a' occurred before"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_record_is_named_by_file_and_line_or_skipped(tmp_path, name, content, message):
    path = _write(tmp_path / name, content)
    with pytest.raises(ValueError, match=message) as raised:
        list(open_corpus(str(path)))
    assert "--skip-bad" in str(raised.value)
    skipped = Skipped()
    assert [passage.id for passage in open_corpus(str(path), skipped)] == ["a"]
    assert skipped.count == 1
    (example,) = skipped.examples
    with pytest.raises(ValueError, match=message):
        raise ValueError(example)


def test_only_the_first_skipped_records_are_listed_and_all_are_counted(tmp_path):
    path = _write(tmp_path / "c.tsv", b"a\tt\n" * 50)
    skipped = Skipped()
    assert len(list(open_corpus(str(path), skipped))) == 1
    assert skipped.count == 49
    assert len(skipped.examples) == 20


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("nowhere.jsonl", r"nowhere\.jsonl does not exist; a corpus is a BEIR folder"),
        ("no-such-corpus", "is no file, no folder, not `pydoc`, and no ir_datasets id"),
        ("beir/no-such-corpus/test", "no ir_datasets id"),
    ],
)
def test_a_corpus_that_is_not_there(corpus, message):
    with pytest.raises(ValueError, match=message):
        list(open_corpus(corpus))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.xml", b"<a/>", r"c\.xml: unknown kind of file; a corpus is"),
        ("c.parquet", b"no parquet", r"c\.parquet is no Parquet file"),
        ("folder/x", b"", r"is no BEIR folder: it has no corpus\.jsonl"),
    ],
)
def test_a_corpus_of_another_kind(tmp_path, name, content, message):
    _write(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        list(open_corpus(str(tmp_path / name.split("/")[0])))


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[: len(b) // 2],
        lambda b: b"\x1f\x8b\x08" + b[3:10] + b"x" * 40,
    ],
)
def test_a_broken_gzip_file(tmp_path, damage):
    whole = gzip.compress(_lines([{"_id": str(n), "text": f"text {n}"} for n in range(500)]))
    (tmp_path / "c.jsonl.gz").write_bytes(damage(whole))
    with pytest.raises(ValueError, match=r"c\.jsonl\.gz: damaged gzip file after line"):
        list(open_corpus(str(tmp_path / "c.jsonl.gz")))


def test_parquet_without_the_columns_and_with_bad_rows(tmp_path):
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"id": ["a"], "body": ["t"]}), path)
    with pytest.raises(ValueError, match="has the columns body, id; wanted one of"):
        list(open_corpus(str(path)))
    pq.write_table(pa.table({"id": ["a", None], "text": ["t", "u"]}), path)
    with pytest.raises(ValueError, match=r"c\.parquet:row 2: no id: none of the fields"):
        list(open_corpus(str(path)))


def test_ids_of_parquet_are_strings_whole_numbers_or_utf8(tmp_path):
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"id": [b"a", "ü".encode()], "text": [b"one", b"two"]}), path)
    assert list(open_corpus(str(path))) == [Passage("a", "", "one"), Passage("ü", "", "two")]
    for ids, message in (
        ([1.0, 2.5], "row 1: the id is 1.0, wanted a string or a whole number"),
        ([b"\xff"], "row 1: id is bytes that are not UTF-8"),
        ([True], "row 1: the id is True"),
    ):
        pq.write_table(pa.table({"id": ids, "text": ["t"] * len(ids)}), path)
        with pytest.raises(ValueError, match=message):
            list(open_corpus(str(path)))


def test_a_utf16_file_is_named(tmp_path):
    path = _write(tmp_path / "c.jsonl", _lines(ROWS).decode().encode("utf-16"))
    with pytest.raises(ValueError, match=r"c\.jsonl is UTF-16; convert the file to UTF-8"):
        list(open_corpus(str(path)))


def test_query_files(tmp_path):
    path = _write(tmp_path / "q.tsv", b"q1\tfirst\nq2\tsecond\n")
    assert read_queries(path) == {"q1": "first", "q2": "second"}
    with pytest.raises(ValueError, match=r"q\.tsv:2: query id 'q1' occurred before"):
        read_queries(_write(path, b"q1\tfirst\nq1\tagain\n"))
    with pytest.raises(ValueError, match=r"q\.tsv:2: query 'q2' is empty"):
        read_queries(_write(path, b"q1\tfirst\nq2\t \n"))
    with pytest.raises(ValueError, match="does not exist"):
        read_queries(tmp_path / "nowhere.tsv")


def test_bad_qrels(beir):
    for path in (beir / "qrels").iterdir():
        path.unlink()
    _write(beir / "qrels/test.tsv", b"query-id\tcorpus-id\tscore\nq\tzwei\thigh\n")
    with pytest.raises(ValueError, match=r"test\.tsv:2: the grade 'high' is not a whole number"):
        load_collection(str(beir))
