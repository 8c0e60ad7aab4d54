from dataclasses import asdict, replace

import pytest

from rerank.prompt.candidates import Candidate
from rerank.prompt.template import fill
from rerank.settings.common import RankerSettings
from rerank.settings.reading import make_ranker_settings

SETTINGS = RankerSettings(
    backbone="encoder",
    instruction="Rank for {query}:\n",
    passage="Passage: {title}\n{text}\n\n",
    query="Query: {query}\nAnswer:",
    query_attends=True,
    signal="query",
    score="mass",
)


def _passage(title, text, template=SETTINGS.passage):
    candidate = Candidate("id", title, text, None)
    return fill(replace(SETTINGS, passage=template), "q", [candidate]).passages[0]


@pytest.mark.parametrize(
    ("title", "text", "filled"),
    [
        ("Pear", "A fruit.", "Passage: Pear\nA fruit.\n\n"),
        ("", "A fruit.", "Passage: A fruit.\n\n"),
        ("Pear", "", "Passage: Pear\n\n"),
        ("{text}", "A fruit.", "Passage: {text}\nA fruit.\n\n"),
        ("{title}", "{text} {title}", "Passage: {title}\n{text} {title}\n\n"),
        ("", "{title}", "Passage: {title}\n\n"),
        ("{text}", "", "Passage: {text}\n\n"),
        ("\\1 {", "}{query}", "Passage: \\1 {\n}{query}\n\n"),
    ],
)
def test_passages(title, text, filled):
    assert _passage(title, text) == filled


def test_no_placeholder_of_another_template_is_left_standing():
    assert _passage("", "A fruit.", "[{title}] {text}") == "[] A fruit."
    assert _passage("Pear", "A fruit.", "[{title}] {text}") == "[Pear] A fruit."


@pytest.mark.parametrize("query", ["who?", "{query}", "{text} {title}", "\\g<0>{"])
def test_queries(query):
    texts = fill(SETTINGS, query, [Candidate("id", "", "text", None)])
    assert texts.instruction == f"Rank for {query}:\n"
    assert texts.query == f"Query: {query}\nAnswer:"
    assert texts.query[slice(*texts.query_span)] == query


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"passage": "no place"}, r"passage template 'no place' has no \{text\}"),
        ({"query": "no place"}, r"query template 'no place' has no \{query\}"),
        ({"temperature": 0.0}, "temperature is 0.0, wanted more than 0"),
        ({"max_passage_tokens": 0}, "max_passage_tokens is 0, wanted at least 1"),
        ({"score": "log_sum_exp"}, "score log_sum_exp needs query_attends: false"),
        ({"layer": 2}, "layer and heads need backbone: decoder"),
        ({"heads": ((2, 1),)}, "layer and heads need backbone: decoder"),
    ],
)
def test_settings_that_make_no_sense(change, message):
    with pytest.raises(ValueError, match=message):
        make_ranker_settings(asdict(SETTINGS) | change, "blockrank.yaml")
