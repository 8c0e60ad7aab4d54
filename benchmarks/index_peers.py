"""Others that search the same vectors, each as wide as it takes to find as much.

In: vectors [n, d], how many are asked for. Out: a peer, whose `search` gives scores and rows.

    peer = peers_of("HNSW32,Flat", built)["hnswlib"](vectors, k=10)

Beside a graph: those of hnswlib and usearch, with as many links. Beside codes: FAISS's own
refinement, `IndexRefineFlat` over the same index, which scores again what that fetches.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import faiss
import numpy as np

Search = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
LINKS, BUILD_BEAM, BEAMS = 32, 40, (128, 192, 256, 384, 512)
# Our own factor (`index/dense/search.py`).
FACTORS = (10,)


class Peer(NamedTuple):
    """A search of queries [q, d]: scores and rows [q, k], and how wide it may be made."""

    search: Search
    widen: Callable[[int], object]
    widths: tuple[int, ...]


def peers_of(kind: str, built: faiss.Index) -> dict[str, Callable[[np.ndarray, int], Peer]]:
    """Who is measured beside an index `built` of that kind; may raise `ImportError` when called."""
    if kind.startswith("HNSW"):
        return {"hnswlib": hnswlib_graph, "usearch": usearch_graph}
    return {"refined": partial(refined, built)} if "PQ" in kind else {}


def hnswlib_graph(vectors: np.ndarray, k: int) -> Peer:
    """hnswlib, by inner products; raises `ImportError` where it is not installed."""
    import hnswlib

    built = hnswlib.Index(space="ip", dim=vectors.shape[1])
    built.init_index(len(vectors), M=LINKS, ef_construction=BUILD_BEAM)
    built.set_num_threads(faiss.omp_get_max_threads())
    built.add_items(vectors)

    def search(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, distances = built.knn_query(queries, k)
        return 1 - distances, rows.astype(np.int64)

    return Peer(search, built.set_ef, BEAMS)


def usearch_graph(vectors: np.ndarray, k: int) -> Peer:
    """usearch, by inner products; raises `ImportError` where it is not installed."""
    from usearch.index import Index

    built = Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=LINKS,
        expansion_add=BUILD_BEAM,
    )
    threads = faiss.omp_get_max_threads()
    built.add(np.arange(len(vectors)), vectors, threads=threads)

    def search(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = built.search(queries, k, threads=threads)
        rows = found.keys.reshape(-1, k).astype(np.int64)
        return 1 - found.distances.reshape(-1, k), rows

    def widen(beam: int) -> None:
        built.expansion_search = beam

    return Peer(search, widen, BEAMS)


def refined(built: faiss.Index, vectors: np.ndarray, k: int) -> Peer:
    """FAISS's refinement of `built`, by whole vectors in memory."""
    whole = faiss.IndexRefineFlat(built, faiss.swig_ptr(vectors))

    def widen(factor: int) -> None:
        whole.k_factor = factor

    return Peer(lambda queries: whole.search(queries, k), widen, FACTORS)
