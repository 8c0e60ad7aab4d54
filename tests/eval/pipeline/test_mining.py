import json

import pytest

from eval.__main__ import build_parser
from rerank.examples.labelled import read_examples
from retrieval import IndexSettings, build_index


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mined") / "collection"
    (folder / "qrels").mkdir(parents=True)
    texts = {f"p{i}": f"text number {i} about {word}" for i, word in enumerate("abcdefgh")}
    rows = [json.dumps({"_id": id_, "title": "", "text": text}) for id_, text in texts.items()]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    queries = [{"_id": "q1", "text": "about a"}, {"_id": "q2", "text": "about b"}]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    lines = ["query-id\tcorpus-id\tscore", "q1\tp0\t1", "q1\tp1\t0", "q2\tgone\t1"]
    (folder / "qrels" / "train.tsv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def index(collection, tiny_encoder):
    folder = collection.parent / "index"
    build_index(str(collection), folder, IndexSettings(encoder=str(tiny_encoder)))
    return folder


def _run(*arguments):
    parsed = build_parser().parse_args(["mine", *map(str, arguments)])
    parsed.run(parsed)


def test_negatives_come_from_the_index(collection, index, tmp_path, capsys):
    out = tmp_path / "train.jsonl"
    _run(collection, "--index", index, "--out", out, "--negatives", 3, "--teacher")
    (example,) = read_examples(out)
    assert example.relevant == {"p0": 1}
    assert len(example.passages) == 4
    assert example.passages[0].text == "text number 0 about a"
    assert set(example.scores) == {passage.id for passage in example.passages}
    negatives = [example.scores[passage.id] for passage in example.passages[1:]]
    assert negatives == sorted(negatives, reverse=True)
    assert "1 examples; left out: 1 queries without a relevant passage" in capsys.readouterr().out
    record = json.loads((tmp_path / "train.jsonl.json").read_text())
    assert record["index"].keys() == {"encoder", "fingerprint"}


def test_a_split_that_is_not_there_is_one_sentence(collection, index, tmp_path):
    with pytest.raises(ValueError, match="has no qrels/test"):
        _run(collection, "--index", index, "--split", "test", "--out", tmp_path / "x.jsonl")
