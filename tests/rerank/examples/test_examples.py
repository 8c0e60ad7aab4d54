import gzip
import json

import pytest

from rerank.examples.labelled import example_line, read_examples

GOOD = {
    "query": "who wrote Faust?",
    "passages": [{"id": "a", "title": "Faust", "text": "Goethe."}, {"id": "b", "text": "Rain."}],
    "relevant": {"a": 2, "b": 0},
    "scores": {"a": 0.5, "b": -1},
}


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_a_line_reads_back_as_it_was_written(tmp_path, name):
    file = tmp_path / name
    lines = [json.dumps(GOOD), "", json.dumps(GOOD | {"id": "q7", "scores": {}})]
    content = "\n".join(lines).encode()
    file.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    first, second = read_examples(file)
    assert (first.id, second.id) == ("1", "q7")
    assert first.relevant == {"a": 2, "b": 0}
    assert first.positives == {"a"}
    assert first.scores == {"a": 0.5, "b": -1}
    assert second.scores == {}
    assert [(p.id, p.title, p.text) for p in first.passages] == [
        ("a", "Faust", "Goethe."),
        ("b", "", "Rain."),
    ]
    again = tmp_path / "again.jsonl"
    again.write_text("".join(f"{example_line(example)}\n" for example in (first, second)))
    found = read_examples(again)
    for got, wanted in zip(found, (first, second), strict=True):
        assert got._replace(passages=()) == wanted._replace(passages=())
        assert [p[:3] for p in got.passages] == [p[:3] for p in wanted.passages]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": " "}, "'query' is missing or empty"),
        ({"passages": None}, "'passages' is missing or no list"),
        ({"passages": []}, "no passages to rank"),
        ({"passages": [{"id": "a", "text": " "}]}, r"passage 0: no visible character \(id 'a'\)"),
        ({"passages": [{"id": "a", "text": "x"}] * 2}, "have the same id 'a'"),
        ({"relevant": {"c": 1}}, "'relevant' names 'c', which no passage"),
        ({"relevant": {"a": 1.5}}, "'relevant' gives 'a' 1.5, wanted a whole number"),
        ({"relevant": {"a": -1}}, "'relevant' gives 'a' -1, wanted a whole number"),
        ({"relevant": ["a"]}, "'relevant' is a list"),
        ({"scores": {"a": "high"}}, "'scores' gives 'a' 'high', wanted a finite number"),
        ({"scores": {"a": float("nan")}}, "NaN is no JSON number"),
        ({"relevent": {}}, "unknown field 'relevent'; known: id, query"),
    ],
)
def test_a_bad_line_is_named(tmp_path, change, message):
    file = tmp_path / "train.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n{json.dumps(GOOD | change)}\n")
    with pytest.raises(ValueError, match=rf"^{file}:2: .*{message}"):
        read_examples(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no example"),
        (b"{broken", r":1: broken JSON"),
        (b"[]", r":1: a list, wanted an object"),
        (b'{"query": "q", "passages": [{"id": "a", "text": "x"}]}', ":1: 'relevant' is missing"),
        (b"\xff", r":1: not UTF-8"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    file = tmp_path / "train.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_examples(file)


def test_a_missing_or_damaged_file_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.jsonl does not exist"):
        read_examples(tmp_path / "nowhere.jsonl")
    file = tmp_path / "train.jsonl.gz"
    file.write_bytes(gzip.compress(json.dumps(GOOD).encode())[:-9])
    with pytest.raises(ValueError, match="damaged gzip file"):
        read_examples(file)
