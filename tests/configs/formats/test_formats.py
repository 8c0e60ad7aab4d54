"""What the text formats share: lines, JSON, ids, texts, numbers, what a terminal may show."""

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.formats.checks import as_id, check_queries, check_query, id_fault, is_blank, text_fault
from configs.formats.fields import text_fields
from configs.formats.lines import json_lines, parse_json, read_json, read_lines
from configs.formats.numerals import finite_number, whole_number
from configs.formats.qrels import collect_qrels
from configs.formats.shown import shown, shown_line


def test_lines_of_a_file_and_of_stdin_are_the_same(tmp_path, monkeypatch):
    content = b"\xef\xbb\xbfone\r\n\ntwo\xe2\x80\xa8half\nbad \xff\nlast"
    wanted = [(1, "one"), (2, ""), (3, "two\u2028half"), (4, None), (5, "last")]
    for bytes_ in (content, gzip.compress(content)):
        (tmp_path / "lines").write_bytes(bytes_)
        assert list(read_lines(tmp_path / "lines")) == wanted
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bytes_)))
        assert list(read_lines(None)) == wanted


def test_stdin_stays_open_and_a_stand_in_of_text_is_read(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("ü\n\ud800\n"))
    assert [line.text for line in read_lines(None)] == ["ü", None]
    stdin = io.TextIOWrapper(io.BytesIO(b"a\n"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert len(list(read_lines(None))) == 1
    assert not stdin.closed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"{}\n" * 9999, mtime=0)[:-12], "damaged gzip file after line"),
        (b"\x1f\x8b\x08" + b"x" * 40, "damaged gzip file after line 0"),
        ("text".encode("utf-16"), "is UTF-16; convert the file to UTF-8"),
        (b'{"a": 1}\n{"a": \xff}\n', "file:2: not UTF-8"),
        (b'{"a": 1}\n{"a"\n', "file:2: broken JSON"),
        (b"[" * 99_999, "file:1: JSON that nests too deeply"),
        (b'{"a": ' * 99_999, "file:1: JSON that nests too deeply"),
        (b'{"a": ' + b"9" * 9999 + b"}", "file:1: broken JSON"),
        (b'{"a": -Infinity}', "file:1: broken JSON: -Infinity is no JSON number"),
    ],
)
def test_what_cannot_be_read_names_the_file(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(json_lines(tmp_path / "file"))


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ValueError, match="none does not exist"):
        list(read_lines(tmp_path / "none"))
    with pytest.raises(ValueError, match="is a folder, wanted a file"):
        list(read_lines(tmp_path))


def test_one_json_value_in_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b'\xef\xbb\xbf{\n "a": [1]\n}\n')
    assert read_json(tmp_path / "f") == {"a": [1]}
    (tmp_path / "f").write_bytes(b'{\n "a": \n}\n')
    with pytest.raises(ValueError, match=r"f: broken JSON: .* at line 3, column 1"):
        read_json(tmp_path / "f")
    with pytest.raises(ValueError, match=r"broken JSON: .* at column 1"):
        parse_json("")


@pytest.mark.parametrize(
    "id_",
    ["", " ", "a b", "a\tb", "a\nb", "a\u00a0b", "a\u2028", "a\0", "\x1b[31m", "\x85", "\ud800"],
)
def test_ids_that_are_none(id_):
    assert id_fault(id_)
    with pytest.raises(ValueError, match=r"the id is empty|^id '"):
        as_id(id_)


@pytest.mark.parametrize("value", [None, 1.0, True, b"a", [1], {}])
def test_an_id_is_a_string_or_a_whole_number(value):
    with pytest.raises(ValueError, match="wanted a string or a whole number"):
        as_id(value)


@pytest.mark.parametrize("id_", ["a", "7", "ä-ö", "日本", "a/b:c#d", "👩‍👩‍👧", "<b>", "\u202eabc"])
def test_ids_that_are_words(id_):
    assert id_fault(id_) == ""
    assert as_id(id_) == id_
    assert as_id(7) == "7"


def test_blank_is_what_no_eye_sees():
    for text in ("", " \n", "\u200b", "\ufeff\u00ad", "\0\x1b", "\u0301", "\u2060\u3000"):
        assert is_blank(text), text
    for text in ("a", ".", "\u200b.", "é", "日", "👍"):
        assert not is_blank(text), text


def test_queries_are_checked_in_one_place():
    assert check_queries(query for query in ["a", "b"]) == ["a", "b"]
    for bad, error, message in (
        ("one", TypeError, "queries is a str, wanted a list"),
        (None, TypeError, "queries is None"),
        (["a", None], TypeError, "query 2 of 2 is None, wanted a string"),
        (["a", "\u200b"], ValueError, "query 2 of 2 is empty: it has no visible character"),
        (["\udcff"], ValueError, "the query has half of a surrogate pair at character 1"),
    ):
        with pytest.raises(error, match=message):
            check_queries(bad)
    with pytest.raises(TypeError, match="the query is a int, wanted a string"):
        check_query(3)
    assert text_fault("👍") == ""


def test_fields_and_their_order():
    assert text_fields({"id": "b", "_id": "a", "text": "t"}) == ("a", "", "t")
    assert text_fields({"_id": None, "id": 3, "contents": "t", "title": None}) == ("3", "", "t")
    assert text_fields({"id": None, "text": "t"}).id is None
    for fields, message in (
        ([], "a list, wanted an object"),
        ({"id": "a"}, "no text: none of the fields text, contents"),
        ({"text": None}, "text is a NoneType, wanted a string"),
        ({"text": "t", "title": 3}, "title is a int, wanted a string"),
    ):
        with pytest.raises(ValueError, match=message):
            text_fields(fields)


def test_numbers_as_files_spell_them():
    assert [whole_number(text) for text in ("1", "-2", "+3", "007")] == [1, -2, 3, 7]
    assert [finite_number(text) for text in ("1", "-2.5", ".5", "1e-3", "5.")] == [
        1, -2.5, 0.5, 0.001, 5,
    ]  # fmt: skip
    for text in ("1_0", "١", "1.0", "", "+", "--1", "1e3", "2147483648", "9" * 5000, " 1"):
        assert whole_number(text) is None, text
    for text in ("1_000", "nan", "inf", "-Infinity", "1e999", "", "0x1p3", "１"):
        assert finite_number(text) is None, text


def test_published_judgments_may_repeat_themselves_and_not_contradict():
    assert collect_qrels([("q", "a", 1), ("q", "a", 1)], "x") == {"q": {"a": 1}}
    with pytest.raises(ValueError, match="'a' of query 'q' is judged a second time, 1 and 0"):
        collect_qrels([("q", "a", 1), ("q", "a", 0)], "x")
    with pytest.raises(ValueError, match="x: id 'a b' has white space"):
        collect_qrels([("q", "a b", 1)], "x")


def test_what_a_terminal_is_shown():
    assert shown("plain ü 日本 👩‍👩‍👧") == "plain ü 日本 👩‍👩‍👧"
    assert shown("\x1b[31mred\x07\r\n\t") == "\\x1b[31mred\\x07\\r\\n\\t"
    assert shown("\u202etxt.exe\u2066") == "\\u202etxt.exe\\u2066"
    assert shown("\x9b31m\ud800\ufeff\u2028") == "\\x9b31m\\ud800\\ufeff\\u2028"
    assert shown_line(" a\n\tb \x1b") == "a b \\x1b"


@given(st.text())
def test_what_is_shown_can_be_printed_on_one_line(text):
    plain = shown(text)
    plain.encode("utf-8")
    assert len(plain.splitlines()) <= 1
    assert not any(c < " " or "\x7f" <= c <= "\x9f" or "\u202a" <= c <= "\u202e" for c in plain)
    assert shown(plain) == plain
