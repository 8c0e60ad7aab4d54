import sqlite3
import subprocess
import sys

import pytest

from eval.judging.readers import Failure, Prompt
from eval.judging.readers.answer_cache import AnswerCache

PROMPTS = [Prompt("s", f"u{number}") for number in range(6)]


class Oracle:
    """A reader that fails where told and remembers what it was asked."""

    def __init__(self, failing=()):
        self.asked = []
        self.failing = failing

    def __call__(self, prompts):
        for index, prompt in reversed(list(enumerate(prompts))):
            self.asked.append(prompt.user)
            failed = prompt.user in self.failing
            yield index, Failure("no") if failed else f"answer to {prompt.user}"


def test_nothing_is_asked_twice_and_rows_stay_where_they_belong(tmp_path):
    cache = AnswerCache(tmp_path / "a.sqlite")
    first = dict(cache.through("t", "reader", PROMPTS[:3], Oracle()))
    assert first == {row: f"answer to u{row}" for row in range(3)}
    oracle = Oracle()
    again = dict(cache.through("t", "reader", PROMPTS, oracle))
    assert again == {row: f"answer to u{row}" for row in range(6)}
    assert sorted(oracle.asked) == ["u3", "u4", "u5"]


def test_reader_task_and_every_word_of_the_prompt_make_the_key(tmp_path):
    cache = AnswerCache(tmp_path / "a.sqlite")
    list(cache.through("t", "reader", [Prompt("s", "u")], Oracle()))
    for task, identity, prompt in [
        ("other", "reader", Prompt("s", "u")),
        ("t", "other", Prompt("s", "u")),
        ("t", "reader", Prompt("other", "u")),
        ("t", "reader", Prompt("s", "other")),
        ("t", "reader", Prompt("su", "")),
    ]:
        oracle = Oracle()
        list(cache.through(task, identity, [prompt], oracle))
        assert len(oracle.asked) == 1


def test_failures_are_asked_again(tmp_path):
    cache = AnswerCache(tmp_path / "a.sqlite")
    found = dict(cache.through("t", "r", PROMPTS, Oracle(failing={"u2"})))
    assert found[2] == Failure("no")
    oracle = Oracle()
    assert dict(cache.through("t", "r", PROMPTS, oracle))[2] == "answer to u2"
    assert oracle.asked == ["u2"]


def test_equal_prompts_are_asked_once_and_answer_every_row(tmp_path):
    oracle = Oracle()
    cache = AnswerCache(tmp_path / "a.sqlite")
    found = dict(cache.through("t", "r", [PROMPTS[0], PROMPTS[1], PROMPTS[0]], oracle))
    assert found[0] == found[2] == "answer to u0"
    assert len(oracle.asked) == 2
    assert len(cache) == 2


def test_a_killed_process_leaves_what_it_was_given(tmp_path):
    """The answer is on disk before the caller sees it: a kill costs nothing that was answered."""
    code = f"""
import os
from eval.judging.readers import Prompt
from eval.judging.readers.answer_cache import AnswerCache
cache = AnswerCache({str(tmp_path / "a.sqlite")!r})
prompts = [Prompt("s", f"u{{n}}") for n in range(6)]
stream = cache.through("t", "r", prompts, lambda some: ((i, p.user) for i, p in enumerate(some)))
for count, _ in enumerate(stream, start=1):
    if count == 4:
        os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    oracle = Oracle()
    dict(AnswerCache(tmp_path / "a.sqlite").through("t", "r", PROMPTS, oracle))
    assert sorted(oracle.asked) == ["u4", "u5"]


def test_two_processes_may_share_a_file(tmp_path):
    one, two = AnswerCache(tmp_path / "a.sqlite"), AnswerCache(tmp_path / "a.sqlite")
    list(one.through("t", "r", PROMPTS[:3], Oracle()))
    oracle = Oracle()
    list(two.through("t", "r", PROMPTS, oracle))
    assert sorted(oracle.asked) == ["u3", "u4", "u5"]
    assert len(one) == 6


def test_another_kind_of_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes, which are no data base at all " * 100)
    with pytest.raises(ValueError, match=r"notes\.txt is no cache of answers"):
        AnswerCache(path)
    assert path.read_text().startswith("my notes")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("create table answers (something text)")
    with pytest.raises(ValueError, match="no cache of answers"):
        AnswerCache(other)
