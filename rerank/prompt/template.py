"""Fill a template's blocks, and know where in the text stands what the caller gave.

Enters: the three templates of `RankerSettings`, a query, candidates. Leaves: block texts.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rerank.prompt.candidates import Candidate
from rerank.settings.common import RankerSettings

_PLACEHOLDER = re.compile(r"\{(query|title|text)\}")


class Given(NamedTuple):
    """Characters [start, end) of a block's text that are the caller's `field`."""

    field: str
    start: int
    end: int


class PromptTexts(NamedTuple):
    """The texts of one prompt's blocks; `query_span` is the query's [start, end) in `query`.

    `given` names what in them is not the template's: of the instruction, each passage, the query.
    """

    instruction: str
    passages: list[str]
    query: str
    query_span: tuple[int, int]
    given: list[tuple[Given, ...]]


def fill(settings: RankerSettings, query: str, candidates: Sequence[Candidate]) -> PromptTexts:
    """The blocks' texts. An untitled passage leaves no empty line behind."""
    asked = {"query": query}
    blocks = [
        _filled(settings.instruction_template, asked),
        *(_passage(settings.passage, candidate) for candidate in candidates),
        _filled(settings.query, asked),
    ]
    texts, given = [text for text, _ in blocks], [pieces for _, pieces in blocks]
    span = (given[-1][0].start, given[-1][0].end)
    return PromptTexts(texts[0], texts[1:-1], texts[-1], span, given)


def _passage(template: str, candidate: Candidate) -> tuple[str, tuple[Given, ...]]:
    fields = {"title": candidate.title, "text": candidate.text}
    if not candidate.title or not candidate.text:
        # The separator between title and text goes with the missing one.
        template = template.replace("{title}\n{text}", "{text}").replace("{title}", "")
        if not candidate.text:
            template = template.replace("{text}", "{title}")
    return _filled(template, fields)


def _filled(template: str, values: Mapping[str, str]) -> tuple[str, tuple[Given, ...]]:
    """In one pass: a title that holds the characters "{text}" is no placeholder."""
    text, given, done = "", [], 0
    for found in _PLACEHOLDER.finditer(template):
        if found[1] in values:
            text += template[done : found.start()]
            given.append(Given(found[1], len(text), len(text) + len(values[found[1]])))
            text, done = text + values[found[1]], found.end()
    return text + template[done:], tuple(given)
