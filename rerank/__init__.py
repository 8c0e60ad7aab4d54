"""Rerank passages with BlockRank: all candidates in one prompt, relevance read from attention.

from rerank import BlockRanker
BlockRanker.from_pretrained().rerank("who wrote Faust?", ["Goethe wrote Faust.", "A pear."])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerank.cache.passage_cache import PassageCache
    from rerank.cascade import CascadeWarning
    from rerank.documents.ranking import AnswerSpan, RankedDocument
    from rerank.prompt.candidates import Ranked
    from rerank.prompt.windows import PassagesTruncatedWarning
    from rerank.ranker import BlockRanker
    from rerank.warned import BlankPassagesWarning

__all__ = [
    "AnswerSpan",
    "BlankPassagesWarning",
    "BlockRanker",
    "CascadeWarning",
    "PassageCache",
    "PassagesTruncatedWarning",
    "Ranked",
    "RankedDocument",
]

_HOMES = {
    "AnswerSpan": "rerank.documents.ranking",
    "BlankPassagesWarning": "rerank.warned",
    "BlockRanker": "rerank.ranker",
    "CascadeWarning": "rerank.cascade",
    "PassageCache": "rerank.cache.passage_cache",
    "PassagesTruncatedWarning": "rerank.prompt.windows",
    "Ranked": "rerank.prompt.candidates",
    "RankedDocument": "rerank.documents.ranking",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `python -m rerank --help` needs no torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
