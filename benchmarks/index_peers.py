"""Graphs of other libraries, with the links and the beam of ours.

In: unit vectors [n, d]. Out: a search that gives row numbers [q, k].

    search = PEERS["hnswlib"](vectors)
"""

from collections.abc import Callable

import faiss
import numpy as np

Search = Callable[[np.ndarray, int], np.ndarray]
LINKS, BUILD_BEAM, BEAM = 32, 40, 128


def hnswlib_graph(vectors: np.ndarray) -> Search:
    """hnswlib, by inner products; raises `ImportError` where it is not installed."""
    import hnswlib

    built = hnswlib.Index(space="ip", dim=vectors.shape[1])
    built.init_index(len(vectors), M=LINKS, ef_construction=BUILD_BEAM)
    built.set_num_threads(faiss.omp_get_max_threads())
    built.add_items(vectors)
    built.set_ef(BEAM)
    return lambda queries, k: built.knn_query(queries, k)[0].astype(np.int64)


def usearch_graph(vectors: np.ndarray) -> Search:
    """usearch, by inner products; raises `ImportError` where it is not installed."""
    from usearch.index import Index

    built = Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=LINKS,
        expansion_add=BUILD_BEAM,
        expansion_search=BEAM,
    )
    threads = faiss.omp_get_max_threads()
    built.add(np.arange(len(vectors)), vectors, threads=threads)

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        return built.search(queries, k, threads=threads).keys.reshape(-1, k).astype(np.int64)

    return search


PEERS = {"hnswlib": hnswlib_graph, "usearch": usearch_graph}
