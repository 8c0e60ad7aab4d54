import gzip
import io
import json
import sys

import pytest
from rerank_cases import QUERY, save_model

from configs.command import run_command
from rerank import BlockRanker
from rerank.__main__ import make_parser
from rerank.ranker import DEFAULT_RERANKER

LINES = [
    "A pear.",
    json.dumps({"id": "faust", "title": "Faust", "text": "Goethe wrote\u2028it."}),
    json.dumps({"_id": "c", "contents": "Rain."}, ensure_ascii=False),
]


@pytest.fixture
def run(minilm_ranker, monkeypatch, capsys):
    """Run a command in this process, with the default reranker loaded once for all tests."""
    monkeypatch.setattr(BlockRanker, "from_pretrained", lambda *_: minilm_ranker)

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = run_command(make_parser(), [str(each) for each in arguments])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


def write(path, *lines):
    path.write_text("\n\n".join(lines) + "\n")
    return path


def objects(out):
    return [json.loads(line) for line in out.split("\n") if line]  # U+2028 ends no line of JSON


def test_rank_as_a_user_calls_it(run_process, tmp_path):
    found = run_process("rerank", "rank", "who wrote Faust?", "--json", stdin="\n".join(LINES))
    assert found.returncode == 0, found.stderr
    output = json.loads(found.stdout)
    assert (output["model"], output["query"]) == (DEFAULT_RERANKER, "who wrote Faust?")
    assert [result["rank"] for result in output["results"]] == [1, 2, 3]
    assert output["results"][0]["id"] == "faust"
    assert {result["id"] for result in output["results"]} == {"faust", "0", "c"}


def test_rank_prints_a_line_a_passage(run, tmp_path):
    file = write(tmp_path / "passages", *LINES)
    out = run("rank", "who wrote Faust?", "--passages", file, "--top-k", 2)
    assert [line.split()[0] for line in out.splitlines()] == ["1", "2"]
    assert out.splitlines()[0].split()[2:] == ["faust", "Goethe", "wrote", "it."]


def test_several_queries_over_the_same_passages(run, tmp_path):
    texts = ["who wrote Faust?", "what fell?"]
    queries = write(tmp_path / "q", texts[0], json.dumps({"_id": "r", "text": texts[1]}))
    passages = write(tmp_path / "p", *LINES)
    found = objects(run("rank", "--queries", queries, "--passages", passages, "--json"))
    assert [each["id"] for each in found] == ["1", "r"]
    for each, text in zip(found, texts, strict=True):
        alone = json.loads(run("rank", text, "--passages", passages, "--json"))
        assert each["results"] == alone["results"]
    out = run("rank", "--queries", queries, "--passages", passages, "--top-k", 1).splitlines()
    assert out[::2] == ["query 1: who wrote Faust?", "query r: what fell?"]


def test_a_batch_brings_its_own_passages(run, tmp_path):
    rows = [
        {"query": "who wrote Faust?", "passages": [json.loads(LINES[1]), "A pear."]},
        {"id": "second", "query": "what fell?", "passages": ["Rain."]},
    ]
    batch = write(tmp_path / "batch", *map(json.dumps, rows))
    found = objects(run("rank", "--batch", batch, "--json"))
    assert [(each["id"], len(each["results"])) for each in found] == [("1", 2), ("second", 1)]
    assert found[0]["results"][0]["id"] == "faust"


def test_decode_answers_with_log_probabilities(run, tmp_path):
    model = save_model(tmp_path / "model", "Llama", "smollm2")
    out = run("rank", QUERY, "--mode", "decode", "--model", model, "--json", stdin="\n".join(LINES))
    output = json.loads(out)
    assert output["model"] == str(model)
    assert {result["id"] for result in output["results"]} == {"faust", "0", "c"}
    assert max(result["score"] for result in output["results"]) < 0


@pytest.mark.slow
def test_decode_with_a_real_language_model(run_process):
    found = run_process("rerank", "rank", QUERY, "--mode", "decode", stdin="\n".join(LINES))
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 3


def test_a_cache_ranks_its_passages_or_those_given(run, tmp_path):
    passages = write(tmp_path / "p", *LINES)
    folder = tmp_path / "cache"
    run("cache", "build", "minilm", "--passages", passages, "--out", folder, "--bits", 32)
    alone = json.loads(run("rank", QUERY, "--passages", passages, "--json"))
    found = json.loads(run("rank", QUERY, "--cache", folder, "--json"))
    assert [(r["id"], pytest.approx(r["score"], abs=1e-5)) for r in found["results"]] == [
        (r["id"], r["score"]) for r in alone["results"]
    ]
    assert [len(line.split()) for line in run("rank", QUERY, "--cache", folder).splitlines()] == [
        3,
        3,
        3,
    ]  # rank, score, id: a cache keeps no words
    some = write(tmp_path / "some", LINES[1])
    out = run("rank", QUERY, "--cache", folder, "--passages", some)
    assert out.split()[2:] == ["faust", "Goethe", "wrote", "it."]


def test_highlights_are_the_words_that_count(run, tmp_path):
    passages = write(tmp_path / "p", *LINES)
    lines = run("rank", QUERY, "--passages", passages, "--highlights", "--top-k", 1).splitlines()
    assert len(lines) == 2
    assert "Faust" in {each.split()[0] for each in lines[1].split("|")}
    result = json.loads(run("rank", QUERY, "--passages", passages, "--highlights", "--json"))
    first = result["results"][0]
    words = {
        first["passage"][token["field"]][token["start"] : token["end"]]
        for token in first["highlights"]
    }
    assert {"Faust", "Goethe"} <= words


def test_respond_answers_line_by_line(run, tmp_path):
    request = {"query": "who wrote Faust?", "documents": ["A pear.", "Goethe wrote it."]}
    lines = [json.dumps(request), json.dumps(request | {"top_n": 1, "model": DEFAULT_RERANKER})]
    out = run("respond", stdin="\n\n".join(lines)).splitlines()
    assert [len(json.loads(line)["results"]) for line in out] == [2, 1]
    assert run("respond", "--requests", write(tmp_path / "r", *lines)).splitlines() == out


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["rank", "query", "--passages", "nowhere.txt"], "", "nowhere.txt does not exist"),
        (["rank", "query"], "good\n{broken\n", "stdin:2: broken JSON"),
        (["rank", "query"], "", "stdin holds no passage"),
        (["rank"], "A pear.\n", "wanted one of a query, --queries FILE or --batch FILE"),
        (["rank", "query", "--queries", "nowhere.txt"], "A pear.", "wanted one of a query"),
        (["rank", "--queries", "nowhere.txt"], "A pear.", "nowhere.txt does not exist"),
        (["rank", "--queries", "{empty}"], "A pear.", "holds no query"),
        (["rank", "--queries", "{batch}"], "A pear.", "batch:1: no text: none of the fields text"),
        (["rank", "--batch", "{batch}"], "", "batch:1: no text: none of the fields query"),
        (
            ["rank", "--batch", "{plain}"],
            "",
            "plain:1: a str, wanted an object with query and passages",
        ),
        (["rank", "--batch", "{batch}", "--passages", "x"], "", "leave --passages out"),
        (["rank", "query", "--model", "no/such-model"], "A pear.\n", "is neither a local model"),
        (["rank", "query", "--cache", "nowhere"], "", "--cache: nowhere does not exist"),
        (["rank", "query", "--cache", ".", "--highlights"], "", "needs the passages' words"),
        (["rank", "query", "--cache", ".", "--mode", "decode"], "", "leave --mode decode out"),
        (
            ["rank", "Faust\udcff"],
            "A pear.",
            "the query has half of a surrogate pair at character 6",
        ),
        (["rank", "\u200b"], "A pear.", "the query is empty: it has no visible character"),
        (["rank", "query", "--top-k", "0"], "A pear.", "--top-k is 0, wanted at least 1"),
        (["rank", "query"], "A pear.\n\ud800\n", "stdin:2: not UTF-8"),
        (["respond", "--requests", "nowhere.txt"], "", "nowhere.txt does not exist"),
        (["respond", "--requests", "."], "", ". is a folder, wanted a file"),
        (["respond", "--model", "no/such-model"], "", "is neither a local model"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments, stdin, message, tmp_path, monkeypatch, capsys
):
    files = {
        "{empty}": write(tmp_path / "empty"),
        "{plain}": write(tmp_path / "plain", "A query."),
        "{batch}": write(tmp_path / "batch", '{"passages": ["A pear."]}'),
    }
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    code = run_command(make_parser(), [str(files.get(each, each)) for each in arguments])
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_a_batch_error_names_its_request(minilm_ranker, tmp_path, monkeypatch, capsys):
    """Sixteen are read at once; the sentence is of one."""
    rows = [{"query": "who?", "passages": ["A pear."]}] * 3
    rows += [{"id": "long", "query": "faust " * 600, "passages": ["A pear."]}]
    batch = write(tmp_path / "batch", *map(json.dumps, [*rows, *rows[:1]]))
    monkeypatch.setattr(BlockRanker, "from_pretrained", lambda *_: minilm_ranker)
    assert run_command(make_parser(), ["rank", "--batch", str(batch)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {batch}:7: request 'long': the query has 602 tokens")
    assert captured.out == ""


def test_nothing_of_a_strangers_moves_the_terminal(run, tmp_path):
    """Ids are checked, and may hold direction overrides; the rest may hold anything."""
    rows = [
        {"id": "a\u202eb", "text": "red \x1b[31m\r\nFaust\u202e", "title": "\x07"},
        {"id": "t", "title": "\x1b]0;title\x07 Goethe", "text": ""},
    ]
    passages = write(tmp_path / "p.jsonl", *map(json.dumps, rows))
    queries = write(tmp_path / "q.jsonl", json.dumps({"id": "q\u202e", "text": "who\x1b[2J\n?"}))
    for more in ((), ("--highlights",)):
        out = run("rank", "--queries", queries, "--passages", passages, *more)
        assert all(character.isprintable() or character == "\n" for character in out)
        lines = out.splitlines()
        assert lines[0] == "query q\\u202e: who\\x1b[2J ?"
        found = {line.split()[2]: line for line in lines[1 :: 1 + bool(more)]}
        assert found["a\\u202eb"].endswith("red \\x1b[31m Faust\\u202e")
        assert found["t"].endswith("\\x1b]0;title\\x07 Goethe")
    exact = objects(run("rank", "--queries", queries, "--passages", passages, "--json"))
    assert {r["id"]: r["passage"] for r in exact[0]["results"]} == {r["id"]: r for r in rows}
    assert exact[0]["query"] == "who\x1b[2J\n?"


def test_json_spells_what_no_stream_can_hold(run):
    """A field that nobody reads may hold anything."""
    row = {"text": "A pear.", "note": "\ud800 Bäume"}
    (found,) = objects(run("rank", "who?", "--json", stdin=json.dumps(row)))
    assert found["results"][0]["passage"] == row


def test_a_passage_that_is_its_own_number_keeps_its_words(run):
    assert run("rank", "who?", stdin="0\nA pear.").count("\n") == 2
    assert {
        line.split(maxsplit=2)[2] for line in run("rank", "who?", stdin="0\n1").splitlines()
    } == {
        "0  0",
        "1  1",
    }


GOOD = {"query": "who wrote Faust?", "documents": ["A pear.", "Goethe wrote it."]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{broken", "broken JSON: Expecting property name"),
        (b"plain", "broken JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"query": "who?"}', "'documents' is missing or empty"),
        (b"[]", "the request is a list, wanted a JSON object"),
        (b'{"query": "who?", "documents": ["a", null]}', "'documents'[1]: None, wanted"),
        (b'{"query": "\\ud800", "documents": ["a"]}', "'query' has half of a surrogate pair"),
        (b'{"query": "who?", "documents": ["a"], "top_n": 2.5}', "'top_n' is 2.5"),
        (b'{"query": "who?", "documents": ["a"], "model": "other"}', "'model' is 'other', and"),
        (b'{"query": ' + b"[" * 100_000, "JSON that nests too deeply"),
        (b'{"query": NaN, "documents": ["a"]}', "broken JSON: NaN is no JSON number"),
        (json.dumps(GOOD | {"query": "faust " * 600}).encode(), "the query has 602 tokens"),
    ],
)
def test_a_bad_request_is_answered_with_an_error_and_the_others_all_the_same(
    line, message, minilm_ranker, monkeypatch, capsys
):
    good = json.dumps(GOOD).encode()
    monkeypatch.setattr(BlockRanker, "from_pretrained", lambda *_: minilm_ranker)
    lines = b"\n".join([good, b"", line, good])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert run_command(make_parser(), ["respond"]) == 0
    captured = capsys.readouterr()
    first, bad, last = objects(captured.out)
    assert first == last
    assert len(first["results"]) == 2
    assert set(bad) == {"error"}
    assert bad["error"].pop("line") == 3
    assert bad["error"].pop("message").startswith(message)
    assert bad["error"] == {}
    assert captured.err == "note: 1 of 3 requests was answered with an error\n"


def test_a_requests_file_may_be_packed_and_marked(run, tmp_path):
    lines = b"\xef\xbb\xbf" + json.dumps(GOOD).encode()
    file = tmp_path / "requests"
    file.write_bytes(gzip.compress(lines))
    assert run("respond", "--requests", file) == run("respond", stdin=lines.decode())


def test_a_blank_document_of_a_request_comes_last_and_each_is_noted(
    minilm_ranker, monkeypatch, capsys
):
    monkeypatch.setattr(BlockRanker, "from_pretrained", lambda *_: minilm_ranker)
    line = json.dumps(GOOD | {"documents": ["", "Goethe wrote it."]})
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{line}\n{line}"))
    assert run_command(make_parser(), ["respond"]) == 0
    captured = capsys.readouterr()
    for response in objects(captured.out):
        assert [result["index"] for result in response["results"]] == [1, 0]
    note = "1 of 2 passages have no visible character: they come last"
    assert captured.err.splitlines() == [f"note: line {number}: {note}" for number in (1, 2)]
