"""Queries and their candidates in tokens, and what is to be said of them.

Enters: checked queries and candidates. Leaves: a prompt a query; a warning where passages were cut.
"""

from collections.abc import Sequence
from typing import Any

from configs.formats.checks import query_name
from rerank.prompt.candidates import Candidate
from rerank.prompt.packing import PromptTokens, tokenize
from rerank.prompt.template import fill
from rerank.prompt.windows import PassagesTruncatedWarning
from rerank.settings.common import RankerSettings
from rerank.warned import warn_caller


def prompts_of(
    tokenizer: Any,
    settings: RankerSettings,
    queries: Sequence[str],
    candidate_lists: Sequence[Sequence[Candidate]],
    max_tokens: int,
) -> list[PromptTokens]:
    """The tokens of each query's prompt; warns of passages that were cut.

    Raises `ValueError` for a query that leaves no room for a passage in `max_tokens`.
    """
    texts = [
        fill(settings, query, candidates)
        for query, candidates in zip(queries, candidate_lists, strict=True)
    ]
    prompts = tokenize(tokenizer, settings, texts) if texts else []
    for number, prompt in enumerate(prompts, 1):
        around = len(prompt.instruction.ids) + len(prompt.query.ids)
        if around >= max_tokens:
            name = query_name(number, len(prompts))
            raise ValueError(
                f"{name} has {around} tokens with its instruction and max_tokens is "
                f"{max_tokens}: no passage fits; shorten it, or raise max_tokens"
            )
    truncated = sum(prompt.truncated for prompt in prompts)
    if truncated:
        warn_caller(
            f"{truncated} of {sum(map(len, candidate_lists))} passages were cut to "
            f"{settings.most_passage_tokens} tokens",
            PassagesTruncatedWarning,
        )
    return prompts
