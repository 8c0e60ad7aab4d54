"""The FAISS index over the vectors: which kind, how it is trained and filled, how it is searched.

Enters: unit vectors, shard by shard. Leaves: row numbers and inner products (= cosines).

    choose_factory(10_000)  # "Flat"
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import faiss
import numpy as np

from index.files import file_of
from index.shards import VectorTable

AUTO = "auto"
# Exact search is fast enough up to here; a graph up to here; beyond, only codes fit in memory.
_EXACT_UP_TO, _GRAPH_UP_TO = 50_000, 1_000_000
_TRAINING_VECTORS_PER_LIST = 64
# Rows fetched beyond k, so that what ties with the k-th is seen and the tie broken by id.
_SPARE = 16
# Codes of compressed vectors order the top only roughly: fetch more and score them exactly.
RESCORE_FACTOR = 10
_LISTS_PROBED, _BEAM = 64, 128
# Vectors of length one, as rounding leaves them.
_LONGEST = 1.01
_ROWS_AT_ONCE = 65_536
_SEED = 1234


class Vectors(Protocol):
    """Rows of vectors: by number, or all of them, part by part."""

    @property
    def parts(self) -> Iterable[np.ndarray]:
        """All of them, float32 [n, d] a part."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, rows: np.ndarray) -> np.ndarray: ...


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


def build_faiss(factory: str, dimension: int, vectors: VectorTable) -> faiss.Index:
    """Train and fill an inner-product index, a shard at a time.

    Raises `ValueError` for a factory string that FAISS does not know or that can't hold these
    vectors (too few to train it, say).
    """
    threads = faiss.omp_get_max_threads()
    try:
        built = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        if "HNSW" in factory:
            # Threads race to link a graph; one thread always links the same one.
            faiss.omp_set_num_threads(1)
        inverted = _inverted_lists(built)
        if not built.is_trained:
            built.train(_training_sample(vectors, inverted.nlist if inverted else 1))
        for part in vectors.parts:
            built.add(part)
    except RuntimeError as error:
        raise ValueError(
            f"FAISS can't build {factory!r} over {len(vectors)} vectors of {dimension} "
            f"dimensions: {_reason(error)}"
        ) from None
    finally:
        faiss.omp_set_num_threads(threads)
    # FAISS's own defaults (one list, a beam of 16) lose many neighbours; both are saved with it.
    if inverted:
        inverted.nprobe = min(inverted.nlist, _LISTS_PROBED)
    if hasattr(built, "hnsw"):
        built.hnsw.efSearch = _BEAM
    return built


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


def search_faiss(
    built: faiss.Index,
    factory: str,
    vectors: VectorTable,
    queries: np.ndarray,
    k: int,
    live: np.ndarray | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The rows and inner products of the best `k` of each query and all that tie with the k-th.

    Rows where `live`, bool [n], is False are passed over. An index that keeps codes orders its top
    only roughly, so more of it is fetched; and of any index so much that as many live rows are seen
    as would be fetched of them alone: no deleted row takes the place of another. Fewer than `k`
    come only where fewer are live. `Flat` gives exactly the best of all rows.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    nothing = np.empty(0, np.int64), np.empty(0, np.float32)
    results: list[tuple[np.ndarray, np.ndarray]] = [nothing] * len(queries)
    alive = len(vectors) if live is None else int(np.count_nonzero(live))
    k = min(k, alive)
    if not k:
        return results
    wanted = k + _SPARE if is_exact(factory) else k * RESCORE_FACTOR
    if live is not None and "HNSW" in factory:
        wanted = max(wanted, _BEAM)  # the beam is as wide as what is fetched: as many live in it
    wanted = min(wanted, alive)
    fetched = -(-wanted * len(vectors) // alive)
    open_ = np.arange(len(queries))
    while len(open_) and fetched < len(vectors):
        again = []
        for place, theirs, rows in zip(open_, *_fetch(built, queries[open_], fetched), strict=True):
            query, found = queries[place], rows[rows >= 0]
            if len(found) and found.max() >= len(vectors):
                raise ValueError(f"the FAISS index is damaged: it has a row {found.max()}")
            ended = len(found) < fetched  # its lists, or what its graph leads to, hold no more
            if live is not None:
                found = found[live[found]]
            if ended and len(found) < k:
                found = _rows(vectors, live)
            scores = inner_products(vectors, found, query)
            results[place], last = _best(found, scores, k)
            # What was not fetched scores no higher than this: surely, or as far as is known.
            flat = factory == "Flat"
            floor = theirs[-1] + _rounding(query) if flat else scores.min(initial=np.inf)
            if not ended and (len(found) < wanted or not floor < last):
                again.append(place)
        open_, fetched = np.array(again, np.int64), 2 * fetched
    for place in open_:
        rows = _rows(vectors, live)
        results[place], _ = _best(rows, inner_products(vectors, rows, queries[place]), k)
    return results


def _fetch(built: faiss.Index, queries: np.ndarray, fetched: int) -> tuple[np.ndarray, np.ndarray]:
    """FAISS's own inner products [q, n] and rows [q, n] of the best, -1 where there are no more."""
    if not hasattr(built, "hnsw"):
        return built.search(queries, fetched)
    # Left to itself FAISS stops at its beam, and what it gives beyond is what it met on the way.
    beam = max(built.hnsw.efSearch, fetched)
    wide = faiss.SearchParametersHNSW(efSearch=beam)  # type: ignore[attr-defined]
    return built.search(queries, fetched, params=wide)


def _rows(vectors: VectorTable, live: np.ndarray | None) -> np.ndarray:
    return np.arange(len(vectors)) if live is None else np.flatnonzero(live)


def inner_products(vectors: VectorTable, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The inner products, float32 [n], of a query with the vectors of some rows.

    Each is added up by itself and in one order, so that a passage scores the same bits whatever is
    asked beside it and in whatever segment it lies. A product of matrices, FAISS's among them, adds
    in an order that depends on its shape.
    """
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        scores[part] = (vectors[rows[part]] * query).sum(axis=1)
    return scores


def _best(
    rows: np.ndarray, scores: np.ndarray, k: int
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """The rows and scores from the k-th best upwards, ties with it among them; its score."""
    last = -np.partition(-scores, k - 1)[k - 1] if len(rows) > k else -np.inf
    return (rows[scores >= last], scores[scores >= last]), float(last)


def _rounding(query: np.ndarray) -> float:
    """By how much the inner products of FAISS and ours, of one row, may differ: no more.

    In any order of adding, rounding errs by at most du/(1 - du) times both lengths, u = 2 ** -24.
    A row that `Flat` did not fetch, whose own product is below this and the last that it did fetch,
    can't be among the best by our products.
    """
    error = len(query) * 2.0**-24
    return float(2 * error / (1 - error) * _LONGEST * np.linalg.norm(query))


def is_exact(factory: str) -> bool:
    """Whether the index's own scores are exact inner products of whole vectors."""
    return factory == "Flat" or (factory.startswith("HNSW") and factory.endswith("Flat"))


def write_faiss(built: faiss.Index, file: BinaryIO) -> None:
    """Write an index into an open file.

    FAISS's own writer says nothing when the disk is full and the last buffer is lost.
    """
    faiss.write_index(built, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def read_faiss(data: Path, name: str, dimension: int, passages: int) -> faiss.Index:
    """Read the index `name` in the folder `data`, onto the GPUs when this faiss has any.

    Raises `ValueError` when it is damaged, or holds anything but the inner products of `passages`
    vectors of that dimension.
    """
    path = file_of(data, name)
    # The flags keep lists that lie in another file from being looked for elsewhere, or written.
    flags = faiss.IO_FLAG_ONDISK_SAME_DIR | faiss.IO_FLAG_READ_ONLY
    try:
        with _reading_at_most(path.stat().st_size):
            read = faiss.read_index(str(path), flags)
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"{name} can't be read: {_reason(error)}") from None
    found = (read.ntotal, read.d, read.metric_type, read.is_trained)
    if found != (passages, dimension, faiss.METRIC_INNER_PRODUCT, True):
        raise ValueError(
            f"{name} holds {read.ntotal} vectors of {read.d} dimensions under FAISS's metric "
            f"{read.metric_type}, wanted {passages} of {dimension} under "
            f"{faiss.METRIC_INNER_PRODUCT}"
        )
    if getattr(faiss, "get_num_gpus", lambda: 0)() > 0 and "HNSW" not in type(read).__name__:
        read = faiss.index_cpu_to_all_gpus(read)
    return read


@contextlib.contextmanager
def _reading_at_most(size: int) -> Iterator[None]:
    """Let FAISS take no length in a file for more than the file's `size` bytes.

    Else it first fills the memory that a damaged length asks for. Older FAISS has no such limits.
    """
    limits = [name for name in _LIMITS if hasattr(faiss, f"set_{name}")]
    before = [getattr(faiss, f"get_{name}")() for name in limits]
    try:
        for name in limits:
            getattr(faiss, f"set_{name}")(size)
        yield
    finally:
        for name, limit in zip(limits, before, strict=True):
            getattr(faiss, f"set_{name}")(limit)


_LIMITS = ("deserialization_vector_byte_limit", "deserialization_loop_limit")


def _reason(error: Exception) -> str:
    """What FAISS complains of, without where in its own code."""
    text = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return re.sub(r"^Error in .*? at \S+:\d+: ", "", text)


def exact_search(queries: np.ndarray, vectors: Vectors, k: int) -> np.ndarray:
    """Brute force: the best `k` inner products [q, k] of each query. The slow twin of FAISS."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    for part in vectors.parts:
        scores = np.concatenate([best, queries @ part.T], axis=1)
        best = -np.partition(-scores, k - 1, axis=1)[:, :k]
    return -np.sort(-best, axis=1)


def recall_at_10(
    search: Callable[[np.ndarray, int], list[np.ndarray]], vectors: Vectors, queries: int
) -> tuple[float, int]:
    """Recall@10 of searches against exact search, and how many queries were asked.

    `search` gives the scores of its best k for each query. Queries are `queries` of the index's own
    vectors, evenly spread. Scores decide, not rows: which of two equal passages comes tenth is
    nobody's mistake. Where there are no vectors nothing is missed.
    """
    if not len(vectors):
        return 1.0, 0
    rows = np.linspace(0, len(vectors) - 1, min(queries, len(vectors))).astype(np.int64)
    asked = vectors[rows]
    k = min(10, len(vectors))
    exact = exact_search(asked, vectors, k)
    hits = sum(
        min(k, int((scores >= best[-1] - 1e-6).sum()))
        for best, scores in zip(exact, search(asked, k), strict=True)
    )
    return hits / (k * len(asked)), len(asked)
