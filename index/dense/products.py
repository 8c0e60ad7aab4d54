"""Inner products that are the same to the last bit whatever is asked beside them.

Enters: rows of vectors, queries. Leaves: float32 inner products, the best of each query.

A product of matrices, FAISS's among them, adds up in an order that depends on its shape; here each
product is added up by itself and in one order, in whatever segment its vector lies, by FAISS's
product of two vectors.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Protocol, runtime_checkable

import faiss
import numpy as np

from index.dense.threads import faiss_threads

# Vectors of length one, as rounding leaves them.
_LONGEST = 1.01
# As many as a core's own memory holds, with their products.
_ROWS_AT_ONCE = 256
_ROWS_A_BLOCK = 16_384
# How many pairs of a row and a query are held at once.
_PAIRS = 1 << 22
# So few take no longer than waking another thread does, which takes milliseconds on a busy machine.
_FEW_PAIRS = 1_024

Found = tuple[np.ndarray, np.ndarray]


class Vectors(Protocol):
    """Rows of vectors, float32 [n, d] by their numbers; a matrix is one."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: np.ndarray) -> np.ndarray: ...


@runtime_checkable
class Addressed(Protocol):
    """Vectors that can be read where they lie."""

    def addresses(self, rows: np.ndarray) -> np.ndarray | None:
        """Where the float32 vector of each row begins in memory, int64 [n]; None: copy them."""
        ...


def inner_products(vectors: Vectors, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The inner products, float32 [n], of a query [d] with the vectors of some rows."""
    return pair_products(vectors, rows, query[None], np.zeros(len(rows), np.int64))


def pair_products(
    vectors: Vectors, rows: np.ndarray, queries: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """The inner product, float32 [n], of each row's vector with the query `asked` [n] for it.

    Raises `IndexError` for a row that is none.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if isinstance(vectors, np.ndarray):
        matrix = np.ascontiguousarray(vectors, np.float32)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(matrix):
            raise IndexError(f"rows from {rows.min()} to {rows.max()} of {len(matrix)}")
        return _products(queries, asked, matrix.ctypes.data, rows)
    scores = np.empty(len(rows), np.float32)
    addresses = vectors.addresses(rows) if isinstance(vectors, Addressed) else None
    if addresses is not None:
        for pairs, start, places in _even_steps(addresses, queries.itemsize * queries.shape[1]):
            scores[pairs] = _products(queries, asked[pairs], start, places)
        return scores
    # As they lie on the disk: a shard is asked once for what all queries want of it.
    order = np.argsort(rows, kind="stable")
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        pairs = order[start : start + _ROWS_AT_ONCE]
        copied = np.ascontiguousarray(vectors[rows[pairs]], np.float32)
        scores[pairs] = _products(queries, asked[pairs], copied.ctypes.data, np.arange(len(pairs)))
    return scores


def _even_steps(addresses: np.ndarray, step: int) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Vectors of `step` bytes that lie in several files, as rows of few matrices.

    Files are mapped to whole pages, so most begin a multiple of `step` apart from another. Gives
    which addresses are rows of one matrix, where that begins, and their places in it.
    """
    if not len(addresses):
        return
    start = int(addresses.min())
    places, rest = np.divmod(addresses - start, step)
    for offset in np.flatnonzero(np.bincount(rest)).tolist():
        pairs = np.flatnonzero(rest == offset)
        yield pairs, start + offset, places[pairs]


def _products(queries: np.ndarray, asked: np.ndarray, start: int, places: np.ndarray) -> np.ndarray:
    """Of queries [q, d] and rows, int64 [n], of a matrix that begins at the address `start`."""
    products = np.empty(len(places), np.float32)
    asked, places = (np.ascontiguousarray(each, np.int64) for each in (asked, places))
    with faiss_threads(1) if len(places) <= _FEW_PAIRS else nullcontext():
        faiss.pairwise_indexed_inner_product(  # type: ignore[attr-defined]
            queries.shape[1],
            len(places),
            faiss.swig_ptr(queries),
            faiss.swig_ptr(asked),
            faiss.cast_integer_to_float_ptr(start),
            faiss.swig_ptr(places),
            faiss.swig_ptr(products),
        )
    return products


def rounding(queries: np.ndarray) -> np.ndarray:
    """By how much the products of FAISS and ours, of one row, may differ, [q]: no more.

    In any order of adding, rounding errs by at most du/(1 - du) times both lengths, u = 2 ** -24.
    """
    error = queries.shape[1] * 2.0**-24
    lengths: np.ndarray = np.sqrt(np.einsum("qd,qd->q", queries, queries))
    return 2 * error / (1 - error) * _LONGEST * lengths


def best_of(
    vectors: Vectors, queries: np.ndarray, k: int, asked: np.ndarray, rows: np.ndarray
) -> list[Found]:
    """Of some pairs of a query (`asked`, ascending) and a row, each query's best `k`.

    Gives the rows and products of each query from its k-th best upwards, ties among them.
    """
    scores = pair_products(vectors, rows, queries, asked)
    ends = np.searchsorted(asked, np.arange(len(queries) + 1))
    found = []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        mine, theirs = scores[start:end], rows[start:end]
        if end - start > k:
            kept = mine >= np.partition(mine, -k)[-k]
            mine, theirs = mine[kept], theirs[kept]
        found.append((theirs, mine))
    return found


def search_rows(vectors: Vectors, rows: np.ndarray, queries: np.ndarray, k: int) -> list[Found]:
    """Exactly the best `k` among some rows, [n] with n >= k, for each query, and what ties."""
    found: list[Found] = []
    step = max(1, _PAIRS // max(k, _ROWS_A_BLOCK))
    for start in range(0, len(queries), step):
        asked = queries[start : start + step]
        found += best_of(vectors, asked, k, *_candidates(vectors, rows, asked, k))
    return found


def _candidates(
    vectors: Vectors, rows: np.ndarray, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a query and a row among which the best `k` of each query surely are.

    Products of matrices are fast, and right up to rounding: a row that is worse than the k-th by
    more than both may err is none of the best by our products.
    """
    margin = 2 * rounding(queries)[:, None]
    best = np.full((len(queries), k), -np.inf, np.float32)
    pairs: list[np.ndarray] = []
    for start in range(0, len(rows), _ROWS_A_BLOCK):
        block = rows[start : start + _ROWS_A_BLOCK]
        products = queries @ vectors[block].T
        best = np.partition(np.concatenate([best, products], axis=1), -k, axis=1)[:, -k:]
        asked, places = np.nonzero(products >= best[:, :1] - margin)
        pairs.append(np.stack([asked, block[places]]))
    asked, of = np.concatenate(pairs, axis=1)
    order = np.argsort(asked, kind="stable")
    return asked[order], of[order]
