"""Lexical search, the classic peer of dense search: BM25 by bm25s, over a whole corpus in memory.

Enters: ids and texts. Leaves: a run.

    Bm25.over([("a", "Open a file."), ("b", "A pear.")]).search({"q": "file"}, k=100)
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from eval.files.trec import Run


class Bm25:
    """BM25 (Lucene's variant, k1 1.5, b 0.75) over stemmed English words without stop words."""

    def __init__(self, index: Any, stemmer: Any, ids: list[str]) -> None:
        self._index, self._stemmer, self._ids = index, stemmer, ids

    @classmethod
    def over(cls, passages: Iterable[tuple[str, str]]) -> "Bm25":
        """Index `passages`, ids and texts; raises `ValueError` where bm25s is missing."""
        try:
            import bm25s
            import Stemmer
        except ImportError:
            raise ValueError("BM25 needs bm25s: pip install 'blockseek[bm25]'") from None
        stemmer = Stemmer.Stemmer("english")
        ids, texts = [], []
        for id_, text in passages:
            ids.append(id_)
            texts.append(text)
        tokens = bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)
        index = bm25s.BM25()
        index.index(tokens, show_progress=False)
        return cls(index, stemmer, ids)

    def search(self, queries: Mapping[str, str], k: int) -> Run:
        """The `k` best passages of each query that share a word with it, by (score, id)."""
        import bm25s

        run: dict[str, dict[str, float]] = {}
        for query_id, query in queries.items():
            (words,) = bm25s.tokenize(
                [query],
                stopwords="en",
                stemmer=self._stemmer,
                return_ids=False,
                show_progress=False,
            )
            scores = self._index.get_scores(words) if words else np.zeros(len(self._ids))
            found = [int(i) for i in np.flatnonzero(scores > 0)]
            best = sorted(found, key=lambda i: (-scores[i], self._ids[i]))[:k]
            run[query_id] = {self._ids[i]: float(scores[i]) for i in best}
        return run
