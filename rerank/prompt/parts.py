"""Prompts in parts and in batches of bounded size.

Enters: tokenized prompts and a number of tokens. Leaves: what one forward pass reads.
"""

from collections.abc import Iterator, Sequence

from rerank.prompt.packing import PromptTokens
from rerank.settings.common import RankerSettings


def in_parts(prompt: PromptTokens, settings: RankerSettings, max_tokens: int) -> list[PromptTokens]:
    """The prompt in parts of at most `max_tokens`, where a score needs no other passage.

    With `score: mass` every score depends on all: one part, for longer ones are read in groups.
    """
    if settings.score == "mass":
        return [prompt]
    parts: list[PromptTokens] = []
    tokens = max_tokens + 1
    for passage in prompt.passages:
        if tokens + len(passage.ids) > max_tokens:
            parts.append(prompt._replace(passages=[]))
            tokens = len(prompt.instruction.ids) + len(prompt.query.ids)
        parts[-1].passages.append(passage)
        tokens += len(passage.ids)
    return parts


def batched(
    parts: Sequence[tuple[int, PromptTokens]], max_tokens: int
) -> Iterator[list[tuple[int, PromptTokens]]]:
    """`parts` in order, as many to a batch as fit `max_tokens`."""
    batch: list[tuple[int, PromptTokens]] = []
    tokens = 0
    for number, part in parts:
        if batch and tokens + part.num_tokens > max_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append((number, part))
        tokens += part.num_tokens
    if batch:
        yield batch
