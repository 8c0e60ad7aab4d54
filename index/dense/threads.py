"""How many threads FAISS works with, for a while.

Enters: a number. Leaves: the number that was set before.

    with faiss_threads(1): built.add(vectors)
"""

import contextlib
from collections.abc import Iterator

import faiss


@contextlib.contextmanager
def faiss_threads(count: int) -> Iterator[None]:
    """Let what this thread asks of FAISS be done by `count` threads."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
