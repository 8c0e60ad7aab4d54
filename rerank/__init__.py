"""Rerank passages with BlockRank: all candidates in one prompt, relevance read from attention.

from rerank import BlockRanker
BlockRanker.from_pretrained().rerank("who wrote Faust?", ["Goethe wrote Faust.", "A pear."])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerank.cache import PassageCache
    from rerank.candidates import Ranked
    from rerank.ranker import BlockRanker
    from rerank.warned import BlankPassagesWarning
    from rerank.windows import PassagesTruncatedWarning

__all__ = [
    "BlankPassagesWarning",
    "BlockRanker",
    "PassageCache",
    "PassagesTruncatedWarning",
    "Ranked",
]

_HOMES = {
    "BlankPassagesWarning": "rerank.warned",
    "BlockRanker": "rerank.ranker",
    "PassageCache": "rerank.cache",
    "PassagesTruncatedWarning": "rerank.windows",
    "Ranked": "rerank.candidates",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `python -m rerank --help` needs no torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
