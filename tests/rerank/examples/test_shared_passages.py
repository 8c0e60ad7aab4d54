"""Examples that name their passages: as those with the texts, in less room."""

import json

import pytest

from rerank.examples.labelled import Example, passages_beside, read_examples
from rerank.examples.shared import write_shared, written
from rerank.prompt.candidates import Candidate

PEAR = Candidate("pear", "Pear", "A pear.", None)
RAIN = Candidate("rain", "", "Rain fell.", None)
EXAMPLES = [
    Example("one", "what is a pear?", (PEAR, RAIN), {"pear": 1}, {"pear": 0.5}),
    Example("2", "what fell?", (RAIN, PEAR), {"rain": 2}, {}),
]


def test_what_is_written_reads_back(tmp_path):
    file = tmp_path / "some.jsonl.gz"
    write_shared(file, EXAMPLES)
    found = read_examples(file)
    assert [e._replace(passages=tuple(p[:3] for p in e.passages)) for e in found] == [
        e._replace(passages=tuple(p[:3] for p in e.passages)) for e in EXAMPLES
    ]
    assert list(written(file)) == [file, tmp_path / "some.passages.jsonl.gz"]
    before = file.read_bytes()
    write_shared(file, EXAMPLES)
    assert file.read_bytes() == before


def test_a_passage_is_one_text():
    other = EXAMPLES[1]._replace(passages=(RAIN, PEAR._replace(text="A peach.")))
    with pytest.raises(ValueError, match="two passages have the id 'pear' and differ"):
        write_shared(passages_beside("nowhere.jsonl"), [EXAMPLES[0], other])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"passage_ids": ["plum"]}, r"x\.jsonl:1: 'passage_ids' names 'plum', which the file"),
        ({"passage_ids": "pear"}, "'passage_ids' is a list of ids"),
        ({"passages": []}, "and stands in place of 'passages'"),
    ],
)
def test_bad_lines_are_one_sentence(tmp_path, change, message):
    file = tmp_path / "x.jsonl"
    write_shared(file, EXAMPLES[:1])
    row = json.loads(file.read_text()) | change
    file.write_text(json.dumps(row))
    with pytest.raises(ValueError, match=message):
        read_examples(file)
    passages_beside(file).unlink()
    with pytest.raises(ValueError, match=r"x\.passages\.jsonl\.gz does not exist"):
        read_examples(file)
