"""Train and fill a FAISS index.

Enters: a factory string, unit vectors, shard by shard. Leaves: an index to be written and searched.

    build_faiss("HNSW32,Flat", 384, vectors, deterministic=True)
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from index.dense.file import reason
from index.dense.gpu import from_gpus, to_gpus, train_on_gpus
from index.dense.kinds import coded_indexes, has_graph, inner_index, linked_index
from index.dense.threads import faiss_threads
from index.store.shards import VectorTable

_TRAINING_VECTORS_PER_LIST = 64
_READ_AT_ONCE = 4096
_LISTS_PROBED, _BEAM = 64, 128
_SEED = 1234
_MORE_LINKS = 1.05


def build_faiss(
    factory: str,
    dimension: int,
    vectors: VectorTable,
    *,
    deterministic: bool = False,
    scratch: Path | None = None,
) -> faiss.Index:
    """Train and fill an inner-product index, a shard at a time.

    The same vectors give the same index, but for a graph, which all threads link together unless
    `deterministic` keeps one. What it is trained on lies in a nameless file in the folder `scratch`
    (None: among temporary files), so that more lists ask for more of the disk, not of memory.
    Raises `ValueError` for a factory string that FAISS does not know or that can't hold these
    vectors (too few to train it, say).
    """
    threads = 1 if deterministic and has_graph(factory) else faiss.omp_get_max_threads()
    try:
        with faiss_threads(threads):
            built = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
            inverted = _inverted_lists(built)
            if not built.is_trained:
                if inverted:
                    train_on_gpus(inverted)
                for coded in coded_indexes(built):
                    # Slow to find: an order of codes for searches that count their equal bits.
                    coded.do_polysemous_training = False  # type: ignore[union-attr]
                with _training_sample(vectors, inverted, scratch) as sample:
                    built.train(sample)
            filled = to_gpus(built)
            if filled is built:
                reserve(built, len(vectors))
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


def reserve(built: faiss.Index, count: int) -> None:
    """Make room in an empty `built` for `count` vectors, where they or a graph of them lie whole.

    FAISS's arrays grow by doubling, the old one beside the new: a little beyond a doubling an index
    would take twice what it holds.
    """
    inner = inner_index(built)
    held = linked_index(inner)
    if isinstance(inner, faiss.IndexHNSW):
        graph: Any = inner.hnsw
        # A node in so many is on upper levels too.
        links = _MORE_LINKS * graph.cum_nb_neighbors(1)
        _grow(graph.neighbors, int(count * links))
        _grow(graph.offsets, count + 1, 1)
        _grow(graph.levels, count)
    if isinstance(held, faiss.IndexFlatCodes):
        _grow(held.codes, count * held.code_size)


def _grow(array: Any, size: int, kept: int = 0) -> None:
    """Let a C++ vector of `kept` entries have room for `size`: it never gives room back."""
    array.resize(size)
    array.resize(kept)


def _inverted_lists(built: faiss.Index) -> faiss.IndexIVF | None:
    try:
        return faiss.extract_index_ivf(built)
    except RuntimeError:
        return None


@contextlib.contextmanager
def _training_sample(
    vectors: VectorTable, inverted: faiss.IndexIVF | None, scratch: Path | None
) -> Iterator[np.ndarray]:
    """Training vectors, float32 [n, d], mapped: a seeded one of every so many rows."""
    lists = inverted.nlist if inverted else 1
    wanted = max(_TRAINING_VECTORS_PER_LIST * lists, 20_000)
    wanted = min(wanted, len(vectors))
    stretches = np.arange(wanted + 1) * len(vectors) // wanted
    rows = np.random.default_rng(_SEED).integers(stretches[:-1], stretches[1:])
    with tempfile.TemporaryFile(dir=scratch) as file:
        # Written, not stored through the mapping: a full disk is then told, not a signal.
        for start in range(0, len(rows), _READ_AT_ONCE):
            file.write(vectors[rows[start : start + _READ_AT_ONCE]].data)
        file.flush()
        yield np.memmap(file, np.float32, "r").reshape(len(rows), -1)
