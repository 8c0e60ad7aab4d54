"""Search in this process: what goes in, what is refused, and what a terminal gets to see."""

import gzip
import io
import json
import sys

import numpy as np
import pytest

from configs.command import run_command
from retrieval.build import IndexSettings, build_index
from retrieval.encoder import Encoder
from retrieval.index import make_parser
from retrieval.retriever import Retriever

NASTY = [
    {"_id": "a\u202eb", "title": "\x07Pear", "text": "red \x1b[31m\r\nFaust\u202e"},
    {"_id": "b", "title": "", "text": "\x1b]0;title\x07 Goethe " + "word " * 40},
]


@pytest.fixture(scope="module")
def retriever(made_index):
    return Retriever.open(made_index, device="cpu")


@pytest.fixture(scope="module")
def nasty_index(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("nasty")
    corpus = folder / "c\x1b[31m.jsonl"
    corpus.write_text("\n".join(map(json.dumps, NASTY)))
    build_index(str(corpus), folder / "index", IndexSettings(encoder=str(tiny_encoder)))
    return folder / "index"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command here; its exit code, stdout and stderr."""

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run_command(make_parser(), [str(each) for each in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_generator_of_queries_and_any_whole_number(retriever):
    wanted = retriever.search(["text 7", "title 3"], 2)
    assert retriever.search((q for q in ["text 7", "title 3"]), np.int64(2)) == wanted
    assert retriever.search("text 7", 2) == wanted[:1]
    assert retriever.search([]) == []
    vectors = retriever.encode_queries(["text 7"])
    assert np.array_equal(retriever.encode_queries(iter(["text 7"])), vectors)


@pytest.mark.parametrize(
    ("queries", "k", "kind", "message"),
    [
        (None, 10, TypeError, "queries is None, wanted a list of strings"),
        (3, 10, TypeError, "queries is a int, wanted a list of strings"),
        ({"q1": "text"}, 10, TypeError, "queries is a dict, wanted a list of strings"),
        ([None], 10, TypeError, "the query is None, wanted a string"),
        (["good", 3], 10, TypeError, "query 2 of 2 is a int, wanted a string"),
        ("", 10, ValueError, "the query is empty"),
        (["good", "\u200b"], 10, ValueError, "query 2 of 2 is empty: it has no visible character"),
        (["a\ud800"], 10, ValueError, "the query has half of a surrogate pair at character 2"),
        ("good", 2.5, TypeError, r"k is 2\.5, wanted a whole number"),
        ("good", True, TypeError, "k is True, wanted a whole number"),
        ("good", 0, ValueError, "k is 0, wanted at least 1"),
    ],
)
def test_what_is_no_search(retriever, queries, k, kind, message):
    with pytest.raises(kind, match=message):
        retriever.search(queries, k)


def test_the_encoder_refuses_the_same(retriever):
    for queries in (None, "one", [None], ["a\ud800"]):
        with pytest.raises((TypeError, ValueError), match=r"quer(y|ies) (is|has)"):
            retriever.encoder.encode_queries(queries)


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["Faust\udcff"], b"", "the query has half of a surrogate pair at character 6"),
        (["good", "\u200b"], b"", "query 2 of 2 is empty: it has no visible character"),
        ([], b"good\n\xff\xff\n", "stdin:2: not UTF-8"),
        ([], b"\xff\xfeg\x00", "stdin is UTF-16"),
        (["good", "-k", "0"], b"", "-k is 0, wanted at least 1"),
    ],
)
def test_bad_searches_are_told_before_a_model_loads(
    run, made_index, monkeypatch, arguments, stdin, message
):
    monkeypatch.setattr(Encoder, "load", lambda *_, **__: pytest.fail("loaded"))
    code, out, err = run("search", made_index, *arguments, stdin=stdin)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_queries_from_stdin_as_files_are_read(run, made_index, pack, mark):
    code, out, _ = run(
        "search", made_index, "--json", "-k", 1, stdin=pack(mark + b"text 7\r\n\n title 3 \n")
    )
    assert code == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert [(each["query_id"], each["query"]) for each in found] == [
        ("1", "text 7"),
        ("2", " title 3 "),
    ]


def test_nothing_of_a_strangers_moves_the_terminal(run, nasty_index):
    code, out, _ = run("search", nasty_index, "who\x1b[2J\n?")
    assert code == 0
    assert all(character.isprintable() or character == "\n" for character in out)
    first, *lines = out.splitlines()
    assert first == "query 1: who\\x1b[2J ?"
    found = {line.split()[2]: line for line in lines}
    assert found["a\\u202eb"].endswith("\\x07Pear red \\x1b[31m Faust\\u202e")
    assert "\\x1b]0;title\\x07 Goethe" in found["b"]
    assert found["b"].endswith("…")
    _, out, _ = run("info", nasty_index)
    assert all(character.isprintable() or character == "\n" for character in out)
    assert "c\\x1b[31m.jsonl" in out


def test_json_is_exact(run, nasty_index):
    _, out, _ = run("search", nasty_index, "who\x1b[2J\n?", "--json")
    (found,) = map(json.loads, out.splitlines())
    assert found["query"] == "who\x1b[2J\n?"
    wanted = {row["_id"]: (row["title"], row["text"]) for row in NASTY}
    assert {hit["id"]: (hit["title"], hit["text"]) for hit in found["hits"]} == wanted


def test_a_run_holds_no_id_that_would_break_it(run, made_index, retriever, monkeypatch):
    """An index of before ids were checked; nothing is printed of it."""
    (hits,) = retriever.search("text 7", 2)
    bad = [hits[0], hits[1]._replace(id="two words")]
    monkeypatch.setattr(Retriever, "search", lambda *_, **__: [bad])
    code, out, err = run("search", made_index, "text 7", "--trec")
    assert (code, out) == (2, "")
    assert err == "error: id 'two words' has white space, a TREC run can't hold it: use --json\n"
