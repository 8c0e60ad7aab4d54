from dataclasses import dataclass

import pytest

from configs.formats.fields import text_fields
from index.records import Passage
from rerank.prompt.candidates import as_candidates, ranked


@dataclass
class Document:
    docid: int | None
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


def test_an_id_that_is_null_is_none():
    given = [
        {"id": None, "text": "a"},
        {"_id": None, "docid": "d", "text": "b"},
        Document(None, "c"),
    ]
    assert [c.id for c in as_candidates(given)] == ["0", "d", "2"]


def test_the_id_fields_have_one_order_everywhere():
    row = {"docid": "third", "id": "second", "_id": "first", "text": "A pear."}
    assert as_candidates([row])[0].id == text_fields(row).id == "first"


def test_any_iterable_will_do_and_a_candidate_stays_what_it_is():
    texts = ["a", "b"]
    once = as_candidates(text for text in texts)
    assert [candidate.given for candidate in once] == texts
    again = as_candidates(iter(once))
    assert all(a is b for a, b in zip(again, once, strict=True))


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ([], "the list is empty"),
        (["good", " \n"], r"passage 1: no visible character \(id '1'\)"),
        (["\u200b\u200b"], r"passage 0: no visible character \(id '0'\)"),
        ([{"id": "a", "title": "\x00", "text": "\ufeff"}], r"no visible character \(id 'a'\)"),
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], "passages 0 and 1 have the same id"),
        ([{"id": "1", "text": "x"}, "y"], "passages 0 and 1 have the same id '1'"),
        ([{"id": "a"}], "passage 0: no text: none of the fields text, contents"),
        ([{"text": None}], "passage 0: text is a NoneType, wanted a string"),
        ([{"text": "x", "title": 3}], "passage 0: title is a int, wanted a string"),
        (["good", None], "passage 1: None, wanted a string, a dict with 'text' or an object with"),
        (
            [3.5],
            r"passage 0: a float, wanted a string, a dict with 'text' or an object with \.text",
        ),
        ([b"bytes"], "passage 0: a bytes, wanted a string"),
        ([{"id": "two words", "text": "x"}], "passage 0: id 'two words' has white space"),
        ([{"id": "a\x00b", "text": "x"}], r"passage 0: id 'a\\x00b' has a control character"),
        (
            [{"id": 1.5, "text": "x"}],
            r"passage 0: the id is 1\.5, wanted a string or a whole number",
        ),
        ([{"id": True, "text": "x"}], "passage 0: the id is True, wanted a string or a whole"),
        ([{"id": "", "text": "x"}], "passage 0: the id is empty"),
        (["a", "b\ud800"], r"passage 1: the text has half of a surrogate pair at character 2"),
        ([{"id": "a", "title": "\udc00", "text": "x"}], "passage 0: the title has half of a surr"),
    ],
)
def test_bad_passages(passages, message):
    with pytest.raises(ValueError, match=message):
        as_candidates(passages)


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ("one string", "passages is a str, wanted a list"),
        (b"bytes", "passages is a bytes, wanted a list"),
        ({"text": "one dict"}, "passages is a dict, wanted a list"),
        (None, "passages is None, wanted a list"),
        (3, "passages is a int, wanted a list"),
    ],
)
def test_what_is_no_list(passages, message):
    with pytest.raises(TypeError, match=message):
        as_candidates(passages)


def test_ranked_orders_by_score_then_id():
    candidates = as_candidates([{"id": id_, "text": "x"} for id_ in ("c", "b", "a")])
    found = ranked(candidates, [0.5, 1.0, 0.5])
    assert [(r.id, r.rank, r.original_rank) for r in found] == [
        ("b", 1, 2),
        ("a", 2, 3),
        ("c", 3, 1),
    ]
