"""Kinds of FAISS index: which one a corpus gets, and what is to be known of one.

Enters: the number of passages, a factory string, an index. Leaves: a factory string, facts.

    choose_factory(10_000, 384)  # "Flat"
"""

import re

import faiss
import numpy as np

AUTO = "auto"
# Exact search is fast enough up to here; a graph up to here; beyond, only codes fit in memory.
_EXACT_UP_TO, _GRAPH_UP_TO = 50_000, 1_000_000
# Whole vectors, as they are, behind a graph or in lists or neither.
_EXACT_SCORES = re.compile(r"Flat|HNSW\d+(,Flat)?|IVF\d+(_HNSW\d*)?,Flat")


def choose_factory(passages: int, dimension: int, factory: str = AUTO) -> str:
    """The FAISS factory string for a corpus of that size; any other than `auto` is kept."""
    if factory != AUTO:
        return factory
    if passages <= _EXACT_UP_TO:
        return "Flat"
    if passages <= _GRAPH_UP_TO:
        return "HNSW32,Flat"
    lists = 2 ** round(np.log2(4 * np.sqrt(passages)))
    # PQ fast-scan wants an even number of 4-bit codes: one for every two dimensions.
    return f"IVF{lists},PQ{dimension // 2}x4fs"


def has_exact_scores(factory: str) -> bool:
    """Whether the index's own scores are inner products of whole vectors."""
    return _EXACT_SCORES.fullmatch(factory) is not None


def has_graph(factory: str) -> bool:
    """Whether threads that link a graph race, so that each build links another one."""
    return re.search(r"(^|,)HNSW", factory) is not None


def inner_index(built: faiss.Index) -> faiss.Index:
    """The index that is searched behind a transformation of vectors (`OPQ…`, `PCA…`), if any."""
    while isinstance(built, faiss.IndexPreTransform):
        built = faiss.downcast_index(built.index)
    return built


def linked_index(built: faiss.Index) -> faiss.Index:
    """What holds the vectors or their codes: the index that a graph links, or `built` itself."""
    return faiss.downcast_index(built.storage) if isinstance(built, faiss.IndexHNSW) else built


def whole_vectors(built: faiss.Index) -> np.ndarray | None:
    """The vectors, float32 [n, d], of a `Flat` index or a graph over one, where they lie in it.

    They are there as long as the index is. None for any other kind.
    """
    flat = linked_index(built)
    if type(flat) not in (faiss.IndexFlat, faiss.IndexFlatIP) or flat.ntotal != built.ntotal:
        return None
    vectors: np.ndarray = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)  # type: ignore[attr-defined]
    return vectors.reshape(flat.ntotal, flat.d)


def coded_indexes(built: faiss.Index) -> list[faiss.IndexPQ | faiss.IndexIVFPQ]:
    """The indexes of product codes in an index: itself, or what lies inside it."""
    inner = inner_index(built)
    if isinstance(inner, faiss.IndexRefine):
        return coded_indexes(faiss.downcast_index(inner.base_index))
    held = linked_index(inner)
    return [held] if isinstance(held, faiss.IndexPQ | faiss.IndexIVFPQ) else []
