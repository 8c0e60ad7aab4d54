import json

import pytest

from retrieval.filter_labels import read_labels


@pytest.fixture
def collection(tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": f"q{n}", "text": f"query {n}"} for n in range(3)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tp1\t2\nq1\tp2\t0\n")
    return folder


def test_a_collection_gives_its_judged_queries(collection):
    found = read_labels(collection=str(collection))
    assert found.queries == {"q0": "query 0", "q1": "query 1"}
    assert found.qrels == {"q0": {"p1": 2}, "q1": {"p2": 0}}
    assert found.source == "qrels"


def test_a_judges_grades_replace_the_collections(collection, tmp_path):
    judged = tmp_path / "judge.txt"
    judged.write_text("q2 0 p9 3\n")
    found = read_labels(collection=str(collection), qrels=judged, source="pseudo:judge")
    assert found == ({"q2": "query 2"}, {"q2": {"p9": 3}}, "pseudo:judge", ())
    judged.write_text("q2 0 p9 3\nlost 0 p9 1\n")
    assert read_labels(collection=str(collection), qrels=judged).without_text == ("lost",)


def test_known_items_are_pseudo_labels(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(
        '{"query": "open a file", "id": "io.open"}\n\n{"query": "x", "id": 7, "query_id": "n"}\n'
    )
    found = read_labels(known_items=path)
    assert found.queries == {"known-1": "open a file", "n": "x"}
    assert found.qrels == {"known-1": {"io.open": 1}, "n": {"7": 1}}
    assert found.source == "pseudo:known-item"
    assert read_labels(known_items=path, source="pseudo:known-item") == found
    with pytest.raises(ValueError, match="known items are pseudo:known-item labels, not qrels"):
        read_labels(known_items=path, source="qrels")
    with pytest.raises(ValueError, match="drop the other options"):
        read_labels(known_items=path, collection="x")


def test_bad_sources_get_one_sentence(collection, tmp_path):
    with pytest.raises(ValueError, match="label source 'guess' is not one of qrels"):
        read_labels(collection=str(collection), source="guess")
    with pytest.raises(ValueError, match="no labels: name a --collection"):
        read_labels()
    with pytest.raises(ValueError, match="does not exist"):
        read_labels(collection=str(collection), qrels=tmp_path / "none")
    other = tmp_path / "other.qrels"
    other.write_text("z 0 p 1\n")
    with pytest.raises(ValueError, match="ids of queries and qrels do not meet"):
        read_labels(collection=str(collection), qrels=other)
    bad = tmp_path / "items.jsonl"
    for text, message in (
        ('{"query": "x"}\n', "items.jsonl:1: wanted"),
        ("[1]\n", "items.jsonl:1: wanted"),
        ("\n", "is empty"),
        ('{"query": "x", "id": "a", "query_id": "1"}\n' * 2, "query id '1' occurred before"),
    ):
        bad.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_labels(known_items=bad)
