"""Pairs to train an encoder on: made of a corpus or given, parted, and what stands against them."""

import json

import numpy as np
import pytest

from eval.statistics.intervals import bootstrap_intervals
from index.records import Passage
from retrieval.training.given import judged_pairs, read_pairs
from retrieval.training.made import TASKS, made_pairs
from retrieval.training.measure import MEASURES, gains, measured
from retrieval.training.negatives import hard_negatives
from retrieval.training.pairs import Pair
from retrieval.training.split import split_pairs

PEARS = Passage(
    "pears",
    "How to pick pears",
    "Pick them before they are soft. No. Keep them in a cool and dark place. They ripen in a week.",
)
BARE = Passage("bare", "", "One sentence alone, however long it may be.")


def test_body_first_asks_with_the_first_sentence():
    (pair,) = made_pairs([PEARS, BARE], ["body-first"], seed=0)
    assert pair.query == "Pick them before they are soft."
    rest = "No. Keep them in a cool and dark place. They ripen in a week."
    assert pair == (pair.query, "pears", f"How to pick pears\n{rest}", "pears")


def test_a_title_asks_for_its_text():
    (pair,) = made_pairs([PEARS, BARE], ["title"], seed=0)
    assert pair == ("How to pick pears", "pears", PEARS.text, "pears")


def test_inverse_cloze_asks_with_any_sentence_that_says_something():
    found = {next(made_pairs([PEARS], ["inverse-cloze"], seed)).query for seed in range(40)}
    assert found == {
        "Pick them before they are soft.",
        "Keep them in a cool and dark place.",
        "They ripen in a week.",
    }


def test_a_passages_pairs_depend_on_no_other_passage():
    alone = list(made_pairs([PEARS], TASKS, seed=3))
    assert [
        pair for pair in made_pairs([BARE, PEARS], TASKS, seed=3) if pair.id == "pears"
    ] == alone
    assert len(alone) == len(TASKS)
    for pair in alone:
        assert pair.query not in pair.text


def test_an_unknown_task_is_refused():
    with pytest.raises(
        ValueError, match="task 'link' is not one of inverse-cloze, body-first, title"
    ):
        list(made_pairs([PEARS], ["link"], seed=0))


def _write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_file_of_pairs_names_passages_or_brings_them(tmp_path):
    texts = {"p1": "Pears are ripe.", "p2": "Beans\nSow them."}
    path = _write(
        tmp_path / "pairs.jsonl",
        {"query": "ripe?", "id": "p1", "group": 7},
        {"query": "sow?", "title": "Beans", "passage": "Sow them."},
        {"query": "chard?", "passage": "Chard is new here."},
    )
    assert read_pairs(path, texts) == [
        ("ripe?", "p1", "Pears are ripe.", "7"),
        ("sow?", "p2", "Beans\nSow them.", "p2"),
        ("chard?", "pairs.jsonl:3", "Chard is new here.", "pairs.jsonl:3"),
    ]
    assert texts["pairs.jsonl:3"] == "Chard is new here."


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"query": "a"}, r'pairs.jsonl:1: wanted {"query": text, "passage": text} or'),
        ({"query": " ", "id": "p1"}, "pairs.jsonl:1: the query is empty"),
        ({"query": "a", "id": "p9"}, "pairs.jsonl:1: passage 'p9' is not in the corpus"),
        ({"query": "a", "passage": "\u200b"}, "the passage has no visible character"),
        ({"query": "a", "passage": 3}, "pairs.jsonl:1: passage is a int, wanted a string"),
    ],
)  # fmt: skip
def test_what_is_no_pair_is_named(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        read_pairs(_write(tmp_path / "pairs.jsonl", line), {"p1": "Pears."})


def test_qrels_make_pairs_of_what_is_relevant():
    qrels = {"q1": {"p1": 2, "p2": 0, "gone": 1}, "q2": {"p2": 1}, "unasked": {"p1": 1}}
    texts = {"p1": "Pears.", "p2": "Beans."}
    pairs = judged_pairs({"q1": "ripe?", "q2": "sow?"}, qrels, texts)
    assert pairs == [("ripe?", "p1", "Pears.", "q1"), ("sow?", "p2", "Beans.", "q2")]
    with pytest.raises(ValueError, match="do not meet in a grade above 0"):
        judged_pairs({"q1": "ripe?"}, {"q1": {"p1": 0}}, texts)


def _pairs(count):
    """Two queries a passage, and passages two to a group: clusters of four pairs."""
    return [Pair(f"q{n}", f"p{n // 2}", f"text {n // 2}", f"g{n // 4}") for n in range(count)]


def test_what_hangs_together_is_never_parted():
    pairs = _pairs(100)
    training, held_out = split_pairs(pairs, 0.2, seed=1)
    assert sorted([*training, *held_out]) == sorted(pairs)
    assert len(held_out) == 20
    assert not {pair.group for pair in training} & {pair.group for pair in held_out}
    assert (training, held_out) == split_pairs(pairs, 0.2, seed=1)
    assert held_out != split_pairs(pairs, 0.2, seed=2)[1]
    # A query of two groups makes one cluster of them.
    joined = [*pairs, Pair("q0", "p49", "text 49", "other")]
    for part in split_pairs(joined, 0.2, seed=1):
        found = {pair.group for pair in part} & {"g0", "g24", "other"}
        assert found in (set(), {"g0", "g24", "other"})


def test_no_more_pairs_than_asked_for():
    training, held_out = split_pairs(_pairs(200), 0.25, seed=0, most=100)
    assert (len(training), len(held_out)) == (72, 28)  # whole clusters of four


def test_too_few_queries_to_say_anything():
    with pytest.raises(ValueError, match="8 queries held out of 80 pairs in 20 clusters"):
        split_pairs(_pairs(80), 0.1, seed=0)


def test_hard_negatives_are_close_and_not_too_close():
    angles = np.radians([0, 8, 20, 30, 60, 90])
    passages = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    query, own = passages[:1], passages[2:3]
    # Its own passage is at 20 degrees, .940; .95 of that is .893, at 27 degrees.
    found = hard_negatives(query, passages, own, [{2}], 5, margin=0.95)
    assert found.tolist() == [[3, 4, 5, 1, 0]]
    assert hard_negatives(query, passages, own, [{2, 3}], 2, margin=0.95).tolist() == [[4, 5]]
    with pytest.raises(ValueError, match="6 passages leave fewer than 5 negatives a query"):
        hard_negatives(query, passages, own, [{2, 3}], 5, margin=0.95)


def test_a_pairs_passage_scores_by_what_is_left_of_it():
    """By hand: p0 would be first by its whole text, and is third by its rest; 1 / log2(4) = .5."""
    passages = np.eye(4, dtype=np.float32)
    query = np.array([[0.8, 0.5, 0.3, 0.1]], np.float32)
    rest = np.array([[0.25, 0, 0, 0]], np.float32)
    pairs = [Pair("q", "p0", "rest", "p0")]
    found = measured(pairs, query, rest, ["p0", "p1", "p2", "p3"], passages)
    assert found["nDCG@10"] == [pytest.approx(0.5)]
    assert found["RR@10"] == [pytest.approx(1 / 3)]
    whole = measured(pairs, query, passages[:1], ["p0", "p1", "p2", "p3"], passages)
    assert whole["nDCG@10"] == whole["R@100"] == [1.0]


def test_a_query_with_two_passages_is_one_query():
    passages = np.eye(3, dtype=np.float32)
    query = np.array([[0.8, 0.5, 0.3]] * 2, np.float32)
    pairs = [Pair("q", "p0", "", "p0"), Pair("q", "p2", "", "p2")]
    found = measured(pairs, query, passages[[0, 2]], ["p0", "p1", "p2"], passages)
    ideal = 1 + 1 / np.log2(3)
    assert found["nDCG@10"] == [pytest.approx((1 + 1 / np.log2(4)) / ideal)]


def test_gains_are_paired_and_their_interval_is_the_houses():
    drawn = np.random.default_rng(0).random((20, 2))
    before = dict.fromkeys(MEASURES, drawn[:, 0])
    after = dict.fromkeys(MEASURES, drawn[:, 1])
    found = gains(before, after, seed=0)["RR@10"]
    low, high = bootstrap_intervals((drawn[:, 1] - drawn[:, 0])[:, None])
    assert found.gain == pytest.approx(found.after - found.before)
    assert (found.low, found.high) == (
        pytest.approx(low[0], abs=5e-3),
        pytest.approx(high[0], abs=5e-3),
    )
    shifted = gains(before, {name: x + 0.25 for name, x in before.items()}, seed=0)["RR@10"]
    assert (shifted.low, shifted.high) == (pytest.approx(0.25), pytest.approx(0.25))
