"""Blocks as a late-interaction checkpoint reads them: which tokens score, and a query's expansion.

Enters: tokenized blocks, cut to length or not, and `MultiVectorSettings`. Leaves: the same blocks,
their `special` marks on the tokens that score for nobody.
"""

from collections.abc import Collection
from dataclasses import replace

from rerank.prompt.spelled_tokens import BlockTokens
from rerank.prompt.windows import in_windows
from rerank.settings.multi_vector import MultiVectorSettings
from rerank.warned import warn_caller


class QueryTruncatedWarning(UserWarning):
    """A query was longer than its checkpoint reads."""


def scoring_passage(block: BlockTokens, settings: MultiVectorSettings) -> BlockTokens:
    """The passage `block` with all its tokens scoring, special ones too, but for those skipped."""
    return _marked(block, settings.passage_skips)


def scoring_query(block: BlockTokens, settings: MultiVectorSettings) -> BlockTokens:
    """The query `block`, cut to `max_query_tokens`, with a warning, and expanded."""
    if len(block.ids) > settings.max_query_tokens:
        warn_caller(
            f"a query of {len(block.ids)} tokens was cut to the {settings.max_query_tokens} that "
            f"the checkpoint reads",
            QueryTruncatedWarning,
        )
    limit = replace(settings, max_passage_tokens=settings.max_query_tokens, max_windows=1)
    block = _marked(in_windows(block, limit), settings.query_skips)
    expansion = settings.expansion
    missing = max(0, expansion.length - len(block.ids)) if expansion else 0
    if not expansion or not missing:
        return block
    end = block.characters[-1][1] if block.characters else 0
    skipped = expansion.token in settings.query_skips
    return block._replace(
        ids=block.ids + [expansion.token] * missing,
        characters=block.characters + [(end, end)] * missing,
        special=block.special + [skipped] * missing,
    )


def _marked(block: BlockTokens, skips: Collection[int]) -> BlockTokens:
    skipped = frozenset(skips)
    return block._replace(special=[id_ in skipped for id_ in block.ids])
