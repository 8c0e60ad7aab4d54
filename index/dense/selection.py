"""Ask a FAISS index for the nearest of some of its rows alone.

Enters: an index, and which rows count. Leaves: FAISS's own scores and rows.

    Selection(built, live).search(queries, 26)
"""

import faiss
import numpy as np

from index.dense.kinds import inner_index


class Selection:
    """An index and the rows of it that may be found: those where `live`, bool [n], is True.

    FAISS is told which rows count, and a graph is searched with so much wider a beam that as many
    of them lie in it. A kind that can't be told (`PQ…`, `…,RFlat`, any on a GPU) is asked for more.
    """

    def __init__(self, built: faiss.Index, live: np.ndarray | None) -> None:
        self._built = built
        self._inner = inner_index(built)
        self._selector: faiss.IDSelector | None = None
        # How many rows are to be seen for one that counts.
        self._of_all = 1.0
        if live is not None:
            self._of_all = len(live) / max(1, int(np.count_nonzero(live)))
            bits = np.packbits(live, bitorder="little")
            self._selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]

    def search(self, queries: np.ndarray, fetched: int) -> tuple[np.ndarray, np.ndarray]:
        """FAISS's inner products [q, n] and rows [q, n] of the best, -1 where there are no more.

        They hold about `fetched` of the rows that count, and others where FAISS can't be told.
        """
        parameters = self._parameters(fetched)
        if parameters is None and self._selector is not None:
            return self._built.search(queries, min(self._built.ntotal, self._more(fetched)))
        return self._built.search(queries, fetched, params=parameters)

    def _more(self, count: int) -> int:
        return int(np.ceil(count * self._of_all))

    def _parameters(self, fetched: int) -> "faiss.SearchParameters | None":
        """What tells FAISS so; None where there is nothing to tell, or no way to."""
        inner, selector = self._inner, self._selector
        if isinstance(inner, faiss.IndexHNSW):
            # Left to itself FAISS stops at its beam, and gives beyond it what it met by the way.
            beam = self._more(max(inner.hnsw.efSearch, fetched))
            return _parameters("SearchParametersHNSW", sel=selector, efSearch=beam)
        if selector is None:
            return None
        if isinstance(inner, faiss.IndexIVF):
            return _parameters("SearchParametersIVF", sel=selector, nprobe=inner.nprobe)
        if isinstance(inner, faiss.IndexFlat | faiss.IndexScalarQuantizer | faiss.IndexRaBitQ):
            return _parameters("SearchParameters", sel=selector)
        return None


def _parameters(kind: str, **values: object) -> faiss.SearchParameters:
    """FAISS's stubs don't know that its parameters are made by name."""
    made: faiss.SearchParameters = getattr(faiss, kind)(**values)
    return made
