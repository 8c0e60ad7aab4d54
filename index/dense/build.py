"""Train and fill a FAISS index.

Enters: a factory string, unit vectors, shard by shard. Leaves: an index to be written and searched.

    build_faiss("HNSW32,Flat", 384, vectors, deterministic=True)
"""

import contextlib
from collections.abc import Iterator

import faiss
import numpy as np

from index.dense.file import reason
from index.dense.gpu import from_gpus, to_gpus, train_on_gpus
from index.dense.kinds import has_graph, inner_index
from index.store.shards import VectorTable

_TRAINING_VECTORS_PER_LIST = 64
_LISTS_PROBED, _BEAM = 64, 128
_SEED = 1234


def build_faiss(
    factory: str, dimension: int, vectors: VectorTable, *, deterministic: bool = False
) -> faiss.Index:
    """Train and fill an inner-product index, a shard at a time.

    The same vectors give the same index, but for a graph, which all threads link together unless
    `deterministic` keeps one. Raises `ValueError` for a factory string that FAISS does not know or
    that can't hold these vectors (too few to train it, say).
    """
    threads = 1 if deterministic and has_graph(factory) else faiss.omp_get_max_threads()
    try:
        with _threads(threads):
            built = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
            inverted = _inverted_lists(built)
            if not built.is_trained:
                if inverted:
                    train_on_gpus(inverted)
                built.train(_training_sample(vectors, inverted.nlist if inverted else 1))
            filled = to_gpus(built)
            for part in vectors.parts:
                filled.add(part)
            built = built if filled is built else from_gpus(filled)
    except RuntimeError as error:
        raise ValueError(
            f"FAISS can't build {factory!r} over {len(vectors)} vectors of {dimension} "
            f"dimensions: {reason(error)}"
        ) from None
    # FAISS's own defaults (one list, a beam of 16) lose many neighbours; both are saved with it.
    if inverted := _inverted_lists(built):
        inverted.nprobe = min(inverted.nlist, _LISTS_PROBED)
    if isinstance(graph := inner_index(built), faiss.IndexHNSW):
        graph.hnsw.efSearch = _BEAM
    return built


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _inverted_lists(built: faiss.Index) -> faiss.IndexIVF | None:
    try:
        return faiss.extract_index_ivf(built)
    except RuntimeError:
        return None


def _training_sample(vectors: VectorTable, lists: int) -> np.ndarray:
    """Training vectors: an even, seeded share of every shard."""
    wanted = max(_TRAINING_VECTORS_PER_LIST * lists, 20_000)
    generator = np.random.default_rng(_SEED)
    rows = generator.choice(len(vectors), min(wanted, len(vectors)), replace=False)
    return vectors[np.sort(rows)]
