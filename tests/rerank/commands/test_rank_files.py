"""What `rerank rank` reads: passages, queries and batches, before any model is loaded."""

import gzip
import io
import json
import sys

import pytest

from rerank.commands.passage_file import read_passages, stream_passages
from rerank.commands.query_file import read_batch, read_queries

BOM = b"\xef\xbb\xbf"
ROWS = [{"_id": "a", "title": "Pear", "text": "A pear."}, {"id": 7, "contents": "Rain\u2028fell."}]
JSON_LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
WORDS = [("a", "Pear", "A pear."), ("7", "", "Rain\u2028fell.")]


def _file(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def _words(candidates):
    return [(c.id, c.title, c.text) for c in candidates]


def _stdin(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz", "p.txt", "p"])
def test_json_is_json_whatever_is_around_it(tmp_path, name, pack, mark):
    path = _file(tmp_path, name, pack(mark + JSON_LINES))
    found = read_passages(path)
    assert _words(found) == WORDS
    assert [c.given for c in found] == ROWS
    assert list(stream_passages(path)) == found


@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_stdin_too(monkeypatch, pack, mark):
    _stdin(monkeypatch, pack(mark + JSON_LINES))
    assert _words(read_passages(None)) == WORDS
    _stdin(monkeypatch, pack(mark + b"A pear.\r\n\n Rain. \n"))
    assert _words(read_passages(None)) == [("0", "", "A pear."), ("1", "", " Rain. ")]


@pytest.mark.parametrize("name", ["p.tsv", "p.tsv.gz"])
def test_tsv_by_its_name(tmp_path, name):
    pack = gzip.compress if name.endswith("gz") else bytes
    path = _file(tmp_path, name, pack(BOM + b"a\tPear\tA pear.\n\n{b\t{not JSON\n"))
    found = read_passages(path)
    assert _words(found) == [("a", "Pear", "A pear."), ("{b", "", "{not JSON")]
    assert found[1].given == {"id": "{b", "title": "", "text": "{not JSON"}
    plain = _file(tmp_path, "p.txt", b"a\tA pear.\n")
    assert _words(read_passages(plain)) == [("0", "", "a\tA pear.")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", b"", "holds no passage"),
        ("p.jsonl", b'{"text": "x"}\nplain\n', ":2: broken JSON: Expecting value at column 1"),
        ("p.jsonl", b'"text"\n', ":1: a str, wanted an object with a text"),
        ("p.txt", b"good\n{broken\n", ":2: broken JSON"),
        ("p.txt", b"good\n\n\xff\xfe\n", ":3: not UTF-8; convert the file to UTF-8"),
        ("p.txt", b"\xff\xfeg\x00", " is UTF-16; convert the file to UTF-8"),
        ("p.txt", gzip.compress(b"good\n" * 99, mtime=0)[:-9], ": damaged gzip file"),
        ("p.txt", b"[" * 9 + b'\n{"text":' + b"[" * 100_000, ":2: JSON that nests too deeply"),
        ("p.jsonl", b'{"text": "a", "id": "two words"}', ":1: id 'two words' has white space"),
        ("p.jsonl", b'{"text": "a", "id": 1.5}', ":1: the id is 1.5, wanted a string or a whole"),
        ("p.jsonl", b'{"text": 3}', ":1: text is a int, wanted a string"),
        ("p.jsonl", b'{"id": "a"}', ":1: no text: none of the fields text, contents"),
        ("p.jsonl", b'{"text": "a\\ud800"}', ":1: the text has half of a surrogate pair"),
        ("p.jsonl", b'{"text": "\\u200b"}', ":1: no visible character (id '0')"),
        ("p.jsonl", b'{"id": "a", "text": "x"}\n\n{"id": "a", "text": "y"}',
         ":3: id 'a' occurred before, on line 1"),
        ("p.txt", b'A pear.\n{"id": "0", "text": "x"}', ":2: id '0' occurred before, on line 1"),
        ("p.tsv", b"a\tb\tc\td\n", ":1: 4 tab-separated columns, wanted id, text or id, title"),
        ("p.tsv", b"a\tA pear.\nplain\n", ":2: 1 tab-separated columns"),
    ],
)  # fmt: skip
def test_bad_passages_name_file_and_line(tmp_path, name, content, message):
    path = _file(tmp_path, name, content)
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the sentence is compared below
        read_passages(path)
    assert str(raised.value).startswith(f"{path}{'' if message[0] in ': ' else ' '}{message}")


def test_missing_files_and_folders(tmp_path):
    for read in (read_passages, read_batch, lambda path: read_queries(path, None)):
        with pytest.raises(ValueError, match="nowhere does not exist"):
            read(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="is a folder, wanted a file"):
            read(tmp_path)


def test_bad_stdin_is_named(monkeypatch):
    _stdin(monkeypatch, b"good\n\xff\n")
    with pytest.raises(ValueError, match="stdin:2: not UTF-8"):
        read_passages(None)
    _stdin(monkeypatch, b"")
    with pytest.raises(ValueError, match="stdin holds no passage"):
        read_passages(None)


@pytest.mark.parametrize("mark", [b"", BOM])
def test_queries_of_every_kind(tmp_path, mark):
    lines = b'who?\n{"qid": "q", "query": "what?"}\n\n{"id": null, "text": "when?"}\n'
    found = read_queries(_file(tmp_path, "q.txt", gzip.compress(mark + lines)), None)
    assert [(r.id, r.query) for r in found] == [("1", "who?"), ("q", "what?"), ("3", "when?")]
    found = read_queries(_file(tmp_path, "q.tsv", mark + b"q1\twho?\n7\twhat?\n"), None)
    assert [(r.id, r.query) for r in found] == [("q1", "who?"), ("7", "what?")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.txt", b"", "holds no query"),
        ("q.tsv", b"", "holds no query"),
        ("q.tsv", b"who?\n", ":1: 1 tab-separated columns, wanted a query's id and its text"),
        ("q.txt", b'who?\n{"passages": []}', ":2: no text: none of the fields text, query"),
        ("q.txt", b'{"text": "\\u200b"}', ":1: the query is empty: it has no visible character"),
        ("q.txt", b'{"text": "a\\udfff"}', ":1: the query has half of a surrogate pair"),
        ("q.txt", b'{"text": "a", "id": "x y"}', ":1: id 'x y' has white space"),
        ("q.txt", b'a\n{"text": "b", "id": 1}', ":2: id '1' occurred before, on line 1"),
        ("q.txt", b"a\n\xff", ":2: not UTF-8"),
    ],
)
def test_bad_queries_name_file_and_line(tmp_path, name, content, message):
    path = _file(tmp_path, name, content)
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the sentence is compared below
        read_queries(path, None)
    assert str(raised.value).startswith(f"{path}{'' if message[0] == ':' else ' '}{message}")


def test_a_batch(tmp_path):
    rows = [
        {"query": "who?", "passages": ["a", {"id": "b", "text": "c"}]},
        {"_id": "r", "query": "what?", "passages": ["d"]},
    ]
    content = BOM + "\n\n".join(map(json.dumps, rows)).encode()
    found = read_batch(_file(tmp_path, "b.jsonl", content))
    assert [(r.id, r.query, [c.id for c in r.passages]) for r in found] == [
        ("1", "who?", ["0", "b"]),
        ("r", "what?", ["0"]),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "r", "query": "q", "passages": []}', "request 'r': no passages to rank: the list"),
        ('{"query": "q", "passages": []}', "request '2': no passages to rank: the list is empty"),
        ('{"id": "r", "query": "q", "passages": [null]}', "request 'r': passage 0: None, wanted"),
        ('{"id": "r", "query": "q", "passages": ["a", " "]}', "request 'r': passage 1: no visible"),
        ('{"id": "r", "query": "q", "passages": ["\\ud800"]}', "request 'r': passage 0: the text"),
        ('{"id": "r", "query": "q", "passages": "a"}', "request 'r': passages is a str, wanted a"),
        ('{"id": "r", "query": "q"}', "request 'r': passages is None, wanted a list"),
        ('{"id": "r", "query": " ", "passages": ["a"]}', "request 'r': the query is empty"),
        ('{"id": "r", "query": "\\ud800", "passages": ["a"]}', "request 'r': the query has half"),
        ('{"id": "r", "query": 3, "passages": ["a"]}', "query is a int, wanted a string"),
        ('{"id": "r", "passages": ["a"]}', "no text: none of the fields query"),
        ('{"id": "1", "query": "q", "passages": ["a"]}', "id '1' occurred before, on line 1"),
        ('{"id": [], "query": "q", "passages": ["a"]}', "the id is [], wanted a string or a whole"),
        ("plain text", "a str, wanted an object with query and passages"),
        ("{broken", "broken JSON"),
    ],
)
def test_a_bad_request_names_its_line_and_id(tmp_path, line, message):
    first = '{"query": "q", "passages": ["a"]}'
    path = _file(tmp_path, "batch", f"{first}\n\n{line}\n".encode())
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the sentence is compared below
        read_batch(path)
    assert str(raised.value).startswith(f"{path}:3: {message}")
    assert "\n" not in str(raised.value)
