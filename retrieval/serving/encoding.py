"""Query vectors whose bits depend on no other query, in batches nonetheless.

Enters: texts of many clients. Leaves: unit rows, each as if its text had been alone.

    SteadyEncoder.load("minilm").encode_queries(["how to open a file", "how to close it"])  # [2, d]

A matrix product adds up in an order that depends on its number of rows and of threads, and padding
changes what attention adds. So a forward pass here holds texts of one length in tokens, has no row
too few, and runs in one thread (the one that serves: see `batching.Worker`): measured, no bit of a
row then depends on the others. `tests/retrieval/serving/test_serving_encoder.py` holds it to that.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from configs.formats.checks import check_queries
from retrieval.encoder import FLOAT32, Encoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Rows of fp32 products of fewer rows have other bits.
_FEWEST_ROWS = 16
_MOST_TOKENS = 1024
# Whoever searches as they type asks for the same text again; a vector is some kilobytes.
_REMEMBERED = 1024
_MOST_CHARACTERS = 1000


class SteadyEncoder(Encoder):
    """An encoder for one serving thread; it remembers the vectors of the last queries."""

    def __init__(
        self,
        name: str,
        model: "SentenceTransformer",
        batch_size: int = 32,
        dtype: str = FLOAT32,
    ) -> None:
        super().__init__(name, model, batch_size, dtype)
        self._known: OrderedDict[str, np.ndarray] = OrderedDict()

    def encode_queries(self, queries: Iterable[str]) -> np.ndarray:
        """Unit vectors float32 [n, d]; equal texts get equal bits, whatever is asked beside them.

        Raises as `check_queries` for a bad one.
        """
        texts = check_queries(queries)
        asked = list(dict.fromkeys(texts))
        found = {text: self._known.pop(text) for text in asked if text in self._known}
        missing = [text for text in asked if text not in found]
        vectors, _ = self.encode_apart(missing, self.record.query_prompt)
        # A row would hold on to the whole batch that it was computed in.
        found |= {text: row.copy() for text, row in zip(missing, vectors, strict=True)}
        self._known |= {text: found[text] for text in asked if len(text) <= _MOST_CHARACTERS}
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        rows = [found[text] for text in texts]
        return np.stack(rows) if rows else np.empty((0, self.record.dimension), np.float32)

    def encode_apart(self, texts: list[str], prompt: str) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors float32 [n, d] of `texts` behind `prompt`, and the tokens read, int64 [n].

        Equal texts are read once. On a CPU, and in one thread, a row's bits depend on no other row.
        """
        places = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        vectors, lengths = self._encode_distinct(list(places), prompt)
        rows = [places[text] for text in texts]
        return vectors[rows], lengths[rows]

    def _encode_distinct(self, texts: list[str], prompt: str) -> tuple[np.ndarray, np.ndarray]:
        """As `encode_apart`, of texts of which no two are equal."""
        vectors = np.empty((len(texts), self.record.dimension), np.float32)
        lengths = self._token_counts([prompt + text for text in texts])
        if self.record.max_length:
            lengths = np.minimum(lengths, self.record.max_length)
        for length in np.unique(lengths).tolist():
            places = np.flatnonzero(lengths == length)
            most = max(1, _MOST_TOKENS // length)
            for start in range(0, len(places), most):
                rows = places[start : start + most]
                batch = [texts[row] for row in rows]
                batch += batch[:1] * (-(-_FEWEST_ROWS // length) - len(batch))
                vectors[rows] = self._encode(batch, prompt, len(batch))[: len(rows)]
        return vectors, lengths
