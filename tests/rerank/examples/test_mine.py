import json
import random

import pytest

from rerank.examples.labelled import read_examples
from rerank.examples.mining import MiningCounts, MiningSettings, mine_negatives, mined_examples
from rerank.prompt.candidates import Candidate

SCORES = {"a": 0.9, "b": 0.8, "c": 0.8, "d": 0.6, "e": 0.5, "f": 0.4}


@pytest.mark.parametrize(
    ("grades", "options", "wanted"),
    [
        ({"a": 1}, {}, ["b", "c", "d", "e", "f"]),
        ({"b": 1}, {"negatives": 2}, ["a", "c"]),
        ({"b": 1}, {"skip": 2}, ["c", "d", "e", "f"]),
        ({"b": 1, "a": 0}, {"skip": 2}, ["a", "c", "d", "e", "f"]),
        ({"d": 1}, {"margin": 0.05}, ["e", "f"]),
        ({"d": 1}, {"margin": 0.15}, ["f"]),
        ({"d": 1, "b": 0}, {"margin": 0.15}, ["b", "f"]),
        ({"z": 1}, {"margin": 0.15, "negatives": 1}, ["a"]),
        ({"a": 2, "b": 1}, {"min_grade": 2, "negatives": 2}, ["b", "c"]),
        ({"a": 1}, {"depth": 3}, ["b", "c"]),
        ({"a": 1}, {"negatives": 2, "draw": "even"}, ["b", "d"]),
    ],
)
def test_negatives_by_hand(grades, options, wanted):
    assert mine_negatives(SCORES, grades, MiningSettings(**options)) == wanted
    shuffled = dict(random.Random(3).sample(sorted(SCORES.items()), len(SCORES)))
    assert mine_negatives(shuffled, grades, MiningSettings(**options)) == wanted


def test_a_random_draw_follows_from_the_seed_and_the_query():
    scores = {f"p{i}": -float(i) for i in range(40)}

    def drawn(query, seed):
        settings = MiningSettings(5, draw="random", seed=seed)
        return mine_negatives(scores, {"p0": 1}, settings, query)

    found = drawn("q", 0)
    assert found == drawn("q", 0)
    assert found == sorted(found, key=lambda id_: -scores[id_])
    assert len({*found}) == 5
    assert "p0" not in found
    assert len({tuple(drawn("q", 1)), tuple(drawn("r", 0)), tuple(found)}) == 3


def test_examples_and_what_was_left_out():
    corpus = {id_: Candidate(id_, "", f"text {id_}", None) for id_ in "abcdef"}
    queries = {"q1": "one", "q2": "two", "q3": "three", "q4": "unjudged"}
    run = {"q1": {"b": 2.0, "a": 1.0}, "q2": {"b": 1.0}, "q3": {"c": 1.0}, "q4": {"a": 1.0}}
    qrels = {"q1": {"a": 2, "gone": 1}, "q2": {"gone": 1}, "q3": {"c": 1}}
    examples, counts = mined_examples(
        queries,
        run,
        qrels,
        lambda ids: {id_: corpus[id_] for id_ in ids if id_ in corpus},
        MiningSettings(),
        teacher=run,
    )
    assert counts == MiningCounts(examples=1, without_relevant=1, without_negative=1)
    (example,) = examples
    assert (example.id, example.query, example.relevant) == ("q1", "one", {"a": 2})
    assert [passage.id for passage in example.passages] == ["a", "b"]
    assert example.scores == {"a": 1.0, "b": 2.0}
    with pytest.raises(ValueError, match="the run has query 'q1', and the queries have no such id"):
        mined_examples({}, run, qrels, lambda ids: {}, MiningSettings())


@pytest.mark.parametrize("name", ["negatives", "depth", "min_grade"])
def test_settings_that_make_no_sense(name):
    with pytest.raises(ValueError, match=f"{name} is 0, wanted at least 1"):
        MiningSettings(**{name: 0})


@pytest.fixture
def files(tmp_path):
    corpus = [{"_id": "a", "title": "Pear", "text": "A pear."}, {"_id": "b", "text": "Rain."}]
    contents = {
        "corpus": "\n".join(map(json.dumps, corpus)),
        "queries": json.dumps({"_id": "q1", "text": "what is a pear?"}),
        "run": "q1 Q0 b 1 0.9 x\nq1 Q0 a 2 0.7 x\n",
        "qrels": "query-id\tcorpus-id\tscore\nq1\ta\t1\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    return [part for name in contents for part in (f"--{name}", tmp_path / name)]


def test_the_command_writes_a_training_file_and_its_record(run_module, files, tmp_path):
    out = tmp_path / "train.jsonl"
    found = run_module("rerank", "mine", *files, "--teacher", tmp_path / "run", "--out", out)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(f"{out}: 1 examples; left out: 0 queries")
    (example,) = read_examples(out)
    assert [(p.id, p.title) for p in example.passages] == [("a", "Pear"), ("b", "")]
    assert example.scores == {"a": 0.7, "b": 0.9}
    record = json.loads((tmp_path / "train.jsonl.json").read_text())
    assert record["settings"]["negatives"] == 15
    assert record["counts"]["examples"] == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run", "q1 Q0 b 1 high x\n", "run:1: the score 'high' is not a finite number"),
        ("qrels", "q1 0 a\n", "qrels:1: 3 columns where 4 white-space-separated ones"),
        ("run", "q1 Q0 b 1 2 x\nq1 Q0 b 2 1 x\n", "run:2: passage 'b' is listed a second time"),
        ("qrels", "q1 0 a 1\nq1 0 a 0\n", "qrels:2: passage 'a' of query 'q1' is judged a second"),
        ("qrels", "q1 0 z 1\n", "nothing to train on: 1 queries have no relevant passage"),
        ("corpus", "{broken", "corpus:1: broken JSON"),
        ("queries", '{"text": "no id"}', "queries:1: no id: none of the fields _id, id"),
    ],
)
def test_bad_files_are_one_sentence(run_module, files, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    found = run_module("rerank", "mine", *files, "--out", tmp_path / "train.jsonl")
    assert found.returncode == 2
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert not (tmp_path / "train.jsonl").exists()
