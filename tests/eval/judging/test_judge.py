import json
import time

import pytest
from chat_server import ChatServer, completion

from eval.__main__ import build_parser
from eval.commands.judge import run_judge
from eval.files.trec import read_qrels
from eval.judging.judge import Pair, judge_pairs, pairs_of, sample_pairs
from eval.judging.prompts import read_judge_prompt
from eval.judging.readers.answer_cache import AnswerCache
from eval.judging.readers.endpoint import EndpointReader, Patience

QUERIES = {"q1": "first", "q2": "second"}
PASSAGES = {f"d{number}": f"passage {number}" for number in range(8)}
PAIRS = [Pair(query_id, passage_id) for query_id in QUERIES for passage_id in PASSAGES]
QUICK = Patience(attempts=3, timeout_s=20, first_pause_s=0.01, longest_pause_s=0.1)


def number_of(request):
    """The number of the passage that the request is about."""
    return int(request["messages"][-1]["content"].split("Passage: passage ")[1].split()[0])


def judge(server, cache, concurrency=8, **options):
    reader = EndpointReader(server.url, "m", concurrency=concurrency, patience=QUICK)
    prompt = read_judge_prompt("graded_0_3")
    return judge_pairs(PAIRS, QUERIES, PASSAGES, prompt, reader, cache, **options)


def moody(request, times):
    """Grades by the passage's number; some fail for ever, some at first, some talk."""
    number = number_of(request)
    if number == 1:
        return 500, {}, b"broken"
    if number == 2:
        return 200, {}, completion("I think it is about a 2")
    if number == 3:
        return 200, {}, completion("7")
    if times == 1:
        if number == 4:
            return 429, {"Retry-After": "0.02"}, b""
        if number == 5:
            return 200, {}, b"{garbage"
        if number == 6:
            time.sleep(0.05)
    return 200, {}, completion(f" {number % 4}.\n")


def test_a_moody_server_costs_retries_and_listed_failures_but_never_a_zero(tmp_path):
    cache = AnswerCache(tmp_path / "a.sqlite")
    with ChatServer(moody) as server:
        judged = judge(server, cache)
    grades = {"d0": 0, "d4": 0, "d5": 1, "d6": 2, "d7": 3}
    assert judged.as_qrels() == {"q1": grades, "q2": grades}
    assert set(judged.failures) == {Pair(q, d) for q in QUERIES for d in ("d1", "d2", "d3")}
    assert "HTTP 500" in judged.failures[Pair("q1", "d1")]
    assert "about a 2" in judged.failures[Pair("q2", "d2")]
    assert "'7'" in judged.failures[Pair("q1", "d3")]


def test_a_second_run_asks_only_for_what_failed(tmp_path):
    cache = AnswerCache(tmp_path / "a.sqlite")
    with ChatServer(moody) as server:
        first = judge(server, cache)
        asked = len(server.requests)
        again = judge(server, cache)
        assert again == first
        # Both queries' d1: what the model said is known, even where it holds no grade.
        assert len(server.requests) - asked == 2 * QUICK.attempts


def test_a_stopped_run_resumes(tmp_path):
    cache = AnswerCache(tmp_path / "a.sqlite")
    seen = []

    def stop_after_five(_):
        seen.append(1)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with ChatServer(lambda r, _: (200, {}, completion("1"))) as server:
        with pytest.raises(KeyboardInterrupt):
            judge(server, cache, concurrency=1, progress=stop_after_five)
        asked = len(server.requests)
        assert asked < len(PAIRS)
        known = len(cache)
        assert known >= 5
        judged = judge(server, cache)
        assert len(judged.judgments) == len(PAIRS)
        assert len(server.requests) - asked == len(PAIRS) - known


def test_likelihood_takes_the_likeliest_label_that_is_listed(tmp_path):
    def reply(request, _):
        number = number_of(request)
        listed = {str(number % 4): -0.1, str((number + 1) % 4): -3.0, "The": -9.0}
        return 200, {}, completion("?", listed if number != 5 else None)

    with ChatServer(reply) as server:
        judged = judge(server, AnswerCache(tmp_path / "a.sqlite"), mode="likelihood")
    assert judged.as_qrels()["q1"] == {
        f"d{number}": number % 4 for number in range(8) if number != 5
    }
    assert "log-probabilities" in judged.failures[Pair("q1", "d5")]


def test_pairs_without_text_are_named(tmp_path):
    prompt, cache = read_judge_prompt("binary"), AnswerCache(tmp_path / "a")
    reader = EndpointReader("http://127.0.0.1:9/v1", "m")
    with pytest.raises(ValueError, match="'z' of query 'q1' has no text"):
        judge_pairs([Pair("q1", "z")], QUERIES, PASSAGES, prompt, reader, cache)
    with pytest.raises(ValueError, match="query 'z' has no text"):
        judge_pairs([Pair("z", "d1")], QUERIES, PASSAGES, prompt, reader, cache)
    with pytest.raises(ValueError, match="mode must be"):
        judge_pairs([Pair("q1", "d1")], QUERIES, PASSAGES, prompt, reader, cache, mode="guess")


def test_samples_repeat_and_keep_the_order():
    pairs = pairs_of({"q1": {"a": 1, "b": 0}, "q2": ["c", "d", "e"]})
    chosen = sample_pairs(pairs, 3, seed=1)
    assert chosen == sample_pairs(pairs, 3, seed=1) == sorted(chosen, key=pairs.index)
    assert len(set(chosen)) == 3
    assert sample_pairs(pairs, None) == sample_pairs(pairs, 99) == pairs


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qrels").mkdir()
    rows = [f"{pair.query_id}\t{pair.passage_id}\t1" for pair in PAIRS]
    (tmp_path / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    for name, texts in (("queries", QUERIES), ("corpus", PASSAGES)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path


def command(folder, server, *options):
    arguments = ["judge", str(folder), "--model", "m", "--endpoint", server.url]
    arguments += ["--out", str(folder / "labels.qrels"), "--cache", str(folder / "a.sqlite")]
    run_judge(build_parser().parse_args([*arguments, "--attempts", "1", *options]))


def test_command_writes_qrels_and_lists_failures(folder, capsys):
    with ChatServer(moody) as server:
        command(folder, server, "--json")
    out, err = capsys.readouterr()
    report = json.loads(out)
    qrels = read_qrels(folder / "labels.qrels")
    assert report["labelled"] == sum(map(len, qrels.values()))
    assert report["labelled"] + len(report["failures"]) == len(PAIRS)
    assert {"query": "q1", "passage": "d3", "reason": "no grade in the answer '7'"} in report[
        "failures"
    ]
    assert "pairs have no label: HTTP 500 broken" in err


def test_command_labels_the_top_of_a_run(folder):
    (folder / "run").write_text("q1 Q0 d6 1 2 t\nq1 Q0 d7 2 1 t\nq1 Q0 d0 3 0 t\n")
    with ChatServer(lambda r, _: (200, {}, completion("1"))) as server:
        command(folder, server, "--run-file", str(folder / "run"), "--depth", "2")
    assert read_qrels(folder / "labels.qrels") == {"q1": {"d6": 1, "d7": 1}}


def test_command_without_any_label_writes_nothing(folder):
    with (
        ChatServer(lambda *_: (500, {}, b"down")) as server,
        pytest.raises(RuntimeError, match="none of the 16 pairs"),
    ):
        command(folder, server)
    assert not (folder / "labels.qrels").exists()
