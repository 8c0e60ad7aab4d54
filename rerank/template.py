"""Fill a template's blocks, and know where in the text the query stands.

Enters: the three templates of `RankerSettings`, a query, candidates. Leaves: block texts.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rerank.candidates import Candidate
from rerank.settings import RankerSettings

_QUERY = "{query}"


class PromptTexts(NamedTuple):
    """The texts of one prompt's blocks; `query_span` is the query's [start, end) in `query`."""

    instruction: str
    passages: list[str]
    query: str
    query_span: tuple[int, int]


def fill(settings: RankerSettings, query: str, candidates: Sequence[Candidate]) -> PromptTexts:
    """The blocks' texts. An untitled passage leaves no empty line behind."""
    before = settings.query.index(_QUERY)
    return PromptTexts(
        instruction=settings.instruction_template.replace(_QUERY, query),
        passages=[_passage(settings.passage, candidate) for candidate in candidates],
        query=settings.query.replace(_QUERY, query),
        query_span=(before, before + len(query)),
    )


def _passage(template: str, candidate: Candidate) -> str:
    if not candidate.title or not candidate.text:
        # The separator between title and text goes with the missing one.
        template = template.replace("{title}\n{text}", "{text}").replace("{title}", "")
        return template.replace("{text}", candidate.text or candidate.title)
    # In one pass: a title that holds the characters "{text}" is no placeholder.
    parts = template.split("{title}")
    return candidate.title.join(part.replace("{text}", candidate.text) for part in parts)
