import json

import pytest

from eval.__main__ import build_parser
from eval.commands.sessions import run_sessions
from eval.measures.sessions import SessionSettings, num, read_sessions

EASY = SessionSettings(depth=2, reformulation=1, patience=10)


def ranked(*ids):
    return {passage: -float(place) for place, passage in enumerate(ids)}


def test_worked_by_hand():
    # Trail: x (1), a (2), reformulation, b (4), a again (5). Highest grade 2: gains a 3/4, b 1/4.
    qrels = {"q1": {"a": 2}, "q2": {"b": 1}}
    run = {"q1": ranked("x", "a", "b"), "q2": ranked("b", "a")}
    actual = 3 / 4 * (1 - 0.2) + 1 / 4 * (1 - 0.4)
    ideal = 3 / 4 * (1 - 0.1) + 1 / 4 * (1 - 0.2)
    found = num([("q1", "q2")], qrels, run, EASY)
    assert found.scores == {"q1": pytest.approx(actual / ideal)}
    assert found.mean == found.scores["q1"]


def test_the_ideal_session_scores_one_and_nothing_scores_more():
    qrels = {"q1": {"a": 3, "b": 1}, "q2": {"b": 2, "c": 1}}
    best = {"q1": ranked("a", "b", "c"), "q2": ranked("x")}
    settings = SessionSettings(depth=3)
    assert num([("q1", "q2")], qrels, best, settings).mean == pytest.approx(1.0)
    later = {"q1": ranked("x"), "q2": ranked("a", "b", "c")}
    assert 0 < num([("q1", "q2")], qrels, later, settings).mean < 1


def test_an_earlier_answer_and_fewer_queries_are_better():
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}}
    early = num([("q1", "q2")], qrels, {"q1": ranked("a"), "q2": ranked("x")}, EASY).mean
    late = num([("q1", "q2")], qrels, {"q1": ranked("x"), "q2": ranked("a")}, EASY).mean
    assert early > late
    costly = SessionSettings(depth=2, reformulation=5, patience=10)
    assert num([("q1", "q2")], qrels, {"q1": ranked("x"), "q2": ranked("a")}, costly).mean < late


def test_missing_turns_unjudged_turns_and_hopeless_sessions_are_listed():
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"z": 0}}
    sessions = [("q0", "q1", "q2"), ("q3",), ("q9",)]
    found = num(sessions, qrels, {"q1": ranked("a"), "q3": ranked("z")}, EASY)
    assert found.scores == {"q1": pytest.approx(1.0)}
    assert found.missing == ("q2",)
    assert found.without_relevant == ("q3",)


def test_sessions_are_read_in_the_order_of_their_turns(tmp_path):
    path = tmp_path / "s.tsv"
    path.write_text("turn\tsession\tquery-id\n10\ts\tc\n2\ts\tb\n1\tt\ta\n")
    assert read_sessions(path) == [("b", "c"), ("a",)]
    path.write_text("turn\tsession\tquery-id\none\ts\tc\n")
    with pytest.raises(ValueError, match=r"s\.tsv:2: expected"):
        read_sessions(path)
    path.write_text("a\tb\n")
    with pytest.raises(ValueError, match="header"):
        read_sessions(path)
    with pytest.raises(ValueError, match="patience"):
        num([], {}, {}, SessionSettings(patience=0))


def test_the_five_conversational_runs(data_folder, capsys):
    folder = data_folder / "cast21_sessions"
    arguments = ["sessions", str(folder), str(folder / "runs"), "--json", "--resamples", "500"]
    run_sessions(build_parser().parse_args(arguments))
    systems = json.loads(capsys.readouterr().out)["systems"]
    assert len(systems) == 5
    assert all(
        0 < score <= 1 for s in systems.values() for score in s["sessions"].values() if score
    )
    assert {len(system["sessions"]) for system in systems.values()} == {19}
    # Manual rewrites with a neural ranker beat automatic ones, as under nDCG@10.
    assert systems["org_manual_ance_bert"]["num"] > systems["org_convdr"]["num"]
