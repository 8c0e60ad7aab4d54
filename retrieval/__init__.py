"""From a corpus to hits: read passages, encode them, build an index, search it, cut the rest.

from retrieval import Retriever, Passage
Retriever.open("my-index").search(["how to open a file"], k=10)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from index.records import Hit, Passage
    from retrieval.build import IndexSettings, build_index
    from retrieval.changes import add_passages, compact_index, delete_passages, update_passages
    from retrieval.contexts import Context, context
    from retrieval.encoder import Encoder
    from retrieval.retriever import Retriever

__all__ = [
    "Context",
    "Encoder",
    "Hit",
    "IndexSettings",
    "Passage",
    "Retriever",
    "add_passages",
    "build_index",
    "compact_index",
    "context",
    "delete_passages",
    "update_passages",
]

_HOMES = {
    "Context": "retrieval.contexts",
    "Encoder": "retrieval.encoder",
    "Hit": "index.records",
    "IndexSettings": "retrieval.build",
    "Passage": "index.records",
    "Retriever": "retrieval.retriever",
    "add_passages": "retrieval.changes",
    "build_index": "retrieval.build",
    "compact_index": "retrieval.changes",
    "context": "retrieval.contexts",
    "delete_passages": "retrieval.changes",
    "update_passages": "retrieval.changes",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `python -m retrieval.index --help` needs no torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
