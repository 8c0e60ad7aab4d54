"""`python -m rerank find`: what it reads, what it prints, what it refuses."""

import gzip
import io
import json
import os
import sys

import pytest

from configs.command import run_command
from rerank import BlockRanker
from rerank.__main__ import make_parser
from rerank.commands.document_file import read_documents

TEXT = "Rain fell.\r\n\r\nGoethe wrote Faust. 🇩🇪 Nobody sang.\n"
QUERY = "who wrote Faust?"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "book one.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    (tmp_path / "packed").write_bytes(gzip.compress(b"A pear."))
    rows = '{"_id": "d7", "title": "Rain", "text": "It rained."}\n\n{"text": "Snow."}\n'
    (tmp_path / "rows.jsonl").write_text(rows)
    return tmp_path


def test_documents_are_files_or_lines(files):
    paths = [files / name for name in ("book one.txt", "packed", "rows.jsonl")]
    found = read_documents(paths)
    ids = [str(paths[0]), str(paths[1]), "d7", f"{paths[2]}:3"]
    assert [(each.id, each.title, each.text) for each in found] == [
        (ids[0], "", TEXT), (ids[1], "", "A pear."), (ids[2], "Rain", "It rained."),
        (ids[3], "", "Snow."),
    ]  # fmt: skip


def test_the_places_that_are_told_are_those_of_the_file(run_module, files):
    path = files / "book one.txt"
    done = run_module(
        "rerank", "find", QUERY, path, files / "rows.jsonl", "--json", "--spans", 1, "--top-k", 2
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["model"], found["query"]) == ("mini", QUERY)
    assert [each["rank"] for each in found["results"]] == [1, 2]
    best = found["results"][0]
    assert set(best) == {"id", "score", "rank", "original_rank", "spans"}
    (span,) = best["spans"]
    assert (best["id"], span["text"]) == (str(path), "Goethe wrote Faust.")
    assert TEXT[span["start"] : span["end"]] == span["text"]


def test_a_file_whose_name_is_not_utf8_is_told(run_module, tmp_path):
    path = tmp_path / os.fsdecode(b"f\xfaust.txt")
    path.write_text("Goethe wrote Faust.")
    done = run_module("rerank", "find", QUERY, path, "--json")
    assert json.loads(done.stdout)["results"][0]["id"] == str(path)
    assert "f\\udcfaust.txt" in run_module("rerank", "find", QUERY, path).stdout


def test_stdin_is_one_document(run_module):
    for arguments in ([], ["-"]):
        done = run_module("rerank", "find", QUERY, *arguments, stdin=TEXT)
        first, second = done.stdout.splitlines()[:2]
        assert first.split()[0::2] == ["1", "stdin"]
        assert second.split()[0] == "14-33"
        assert second.endswith("Goethe wrote Faust.")


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        ([" "], "a", "the query is empty"),
        ([QUERY, "--spans", "0"], "a", "--spans is 0, wanted at least 1"),
        ([QUERY, "none.txt"], "", "none.txt does not exist"),
        ([QUERY, "-", "-"], "a", "stdin: document 'stdin' occurred before, in stdin"),
        ([QUERY], "a\n\udcff", "stdin:2: not UTF-8"),
        ([QUERY, "--block-tokens", "9", "--overlap-tokens", "9"], "a", "overlap is 9 tokens"),
    ],
)
def test_bad_input_is_one_sentence(run_module, arguments, stdin, message):
    done = run_module("rerank", "find", *arguments, stdin=stdin)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_bad_lines_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"title": "b"}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: no text"):
        read_documents([path])
    path.write_text('{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}\n')
    with pytest.raises(ValueError, match=r"jsonl:2: document '1' occurred before, in .*jsonl:1"):
        read_documents([path])
    path.write_text("")
    with pytest.raises(ValueError, match=r"rows\.jsonl: no document"):
        read_documents([path])


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_sees_how_much_was_read(minilm_ranker, monkeypatch, files, terminal):
    monkeypatch.setattr(BlockRanker, "from_pretrained", lambda *_: minilm_ranker)
    monkeypatch.setattr(sys, "stderr", _Terminal() if terminal else io.StringIO())
    assert run_command(make_parser(), ["find", QUERY, str(files / "packed")]) == 0
    printed = sys.stderr.getvalue()
    assert ("7.00/7.00" in printed and "characters/s" in printed) == terminal
    assert terminal or not printed
