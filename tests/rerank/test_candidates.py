from dataclasses import dataclass

import pytest

from index.records import Passage
from rerank.candidates import as_candidates, ranked


@dataclass
class Document:
    docid: int
    contents: str


def test_every_kind_of_passage():
    given = [
        "plain",
        {"text": "no id"},
        {"_id": "beir", "title": "Title", "text": "text"},
        {"id": 7, "title": None, "contents": "numbered"},
        Passage("passage", "Title", ""),
        Document(9, "object"),
    ]
    found = as_candidates(given)
    assert [(c.id, c.title, c.text) for c in found] == [
        ("0", "", "plain"),
        ("1", "", "no id"),
        ("beir", "Title", "text"),
        ("7", "", "numbered"),
        ("passage", "Title", ""),
        ("9", "", "object"),
    ]
    assert all(candidate.given is passage for candidate, passage in zip(found, given, strict=True))


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ([], "the list is empty"),
        ("one string", "passages is one str, wanted a list"),
        ({"text": "one dict"}, "passages is one dict, wanted a list"),
        (["good", " \n"], r"passage 1 \(id '1'\) has no text"),
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], "passages 0 and 1 have the same id"),
        ([{"id": "1", "text": "x"}, "y"], "passages 0 and 1 have the same id '1'"),
        ([{"id": "a"}], "passage 0 is a dict without a text"),
        ([{"text": None}], "passage 0 is a dict without a text"),
        ([{"text": "x", "title": 3}], "passage 0 is a dict"),
        ([None], "passage 0 is a NoneType without a text"),
        ([3.5], "passage 0 is a float without a text"),
    ],
)
def test_bad_passages(passages, message):
    with pytest.raises(ValueError, match=message):
        as_candidates(passages)


def test_ranked_orders_by_score_then_id():
    candidates = as_candidates([{"id": id_, "text": "x"} for id_ in ("c", "b", "a")])
    found = ranked(candidates, [0.5, 1.0, 0.5])
    assert [(r.id, r.rank, r.original_rank) for r in found] == [
        ("b", 1, 2),
        ("a", 2, 3),
        ("c", 3, 1),
    ]
