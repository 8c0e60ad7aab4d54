"""UDCG from a run to a score: contexts, a reader behind a real server, the scored file."""

import json
import math

import pytest
from chat_server import ChatServer, completion

from eval.__main__ import build_parser
from eval.commands.contexts import run_contexts
from eval.commands.udcg import run_udcg
from eval.judging.abstention import SYSTEM
from eval.measures.udcg import udcg


@pytest.fixture
def folder(tmp_path):
    def lines(texts):
        return "\n".join(json.dumps({"_id": key, **fields}) for key, fields in texts.items())

    (tmp_path / "qrels").mkdir()
    rows = ["query-id\tcorpus-id\tscore", "q1\td1\t2", "q1\td2\t0", "q2\td3\t1", "q3\td1\t1"]
    (tmp_path / "qrels" / "test.tsv").write_text("\n".join(rows))
    queries = {f"q{n}": {"text": f"question {n}"} for n in (1, 2, 3)}
    corpus = {f"d{n}": {"title": f"T{n}", "text": f"text {n}"} for n in (1, 2, 3, 4)}
    (tmp_path / "queries.jsonl").write_text(lines(queries))
    (tmp_path / "corpus.jsonl").write_text(lines(corpus))
    (tmp_path / "run").write_text(
        "q1 Q0 d2 1 3 t\nq1 Q0 d1 2 2 t\nq1 Q0 d4 3 1 t\nq2 Q0 d4 1 1 t\n"
    )
    return tmp_path


def contexts(folder, *options):
    out = folder / "contexts.json"
    arguments = ["contexts", str(folder), str(folder / "run"), "--out", str(out)]
    run_contexts(build_parser().parse_args([*arguments, *options]))
    return json.loads(out.read_text())


def score(folder, server, *options):
    out = folder / "scored.json"
    arguments = ["udcg", str(folder / "contexts.json"), "--reader", "m", "--endpoint", server.url]
    arguments += ["--cache", str(folder / "a.sqlite"), "--out", str(out), "--attempts", "1"]
    run_udcg(build_parser().parse_args([*arguments, "--json", *options]))
    return json.loads(out.read_text())


def test_contexts_are_what_the_run_retrieved(folder, capsys):
    examples = contexts(folder, "--depth", "2", "--minimum-grade", "2")
    assert [example["example_id"] for example in examples] == ["q1", "q2", "q3"]
    assert examples[0]["question"] == "question 1"
    assert examples[0]["passages"] == [
        {"doc_id": "d2", "text": "T2\ntext 2", "is_relevant": False},
        {"doc_id": "d1", "text": "T1\ntext 1", "is_relevant": True},
    ]
    assert examples[2]["passages"] == []
    assert "3 examples, 1 of them without a passage" in capsys.readouterr().out
    assert len(contexts(folder, "--queries", "1")) == 1


def abstain_by_passage(request, _):
    number = int(request["messages"][-1]["content"].split("text ")[1].split()[0])
    if number == 4:
        return 500, {}, b"down"
    listed = {"NO": math.log(number / 10), "The": math.log(0.5), "x": math.log(0.001)}
    return 200, {}, completion("NO", listed)


def test_a_reader_behind_an_endpoint_scores_and_fails_openly(folder, capsys):
    contexts(folder, "--depth", "3")
    with ChatServer(abstain_by_passage) as server:
        scored = score(folder, server)
        sent = server.requests[0]["messages"]
        asked = len(server.requests)
        score(folder, server)
        # Only what failed is asked again: d4 under two queries.
        assert len(server.requests) - asked == 2
    assert sent[0] == {"role": "system", "content": SYSTEM}
    assert sent[1]["content"].startswith("Document: T")
    out, err = capsys.readouterr()
    report = json.loads(out[out.rindex('{\n  "file"') :])
    assert report["scores"] == {"q1": None, "q2": None, "q3": 0.0}
    assert set(report["failed"]) == {"q1", "q2"}
    assert "2 passages have no probability: HTTP 500 down" in err
    passages = scored[0]["passages"]
    assert passages[0]["models_info"]["m"]["no_res_prob"] == pytest.approx(0.2)
    assert "models_info" not in passages[2]
    assert "udcg" not in scored[0]


def test_the_score_is_that_of_the_probabilities(folder):
    contexts(folder, "--depth", "2", "--queries", "1")
    with ChatServer(abstain_by_passage) as server:
        (scored,) = score(folder, server)
    assert scored["udcg"]["m"] == pytest.approx(udcg([False, True], [0.2, 0.1]), abs=1e-12)


def test_a_reader_that_gives_nothing_is_a_failure(folder):
    contexts(folder)
    with (
        ChatServer(lambda *_: (500, {}, b"down")) as server,
        pytest.raises(RuntimeError, match="no probability for any passage"),
    ):
        score(folder, server)
