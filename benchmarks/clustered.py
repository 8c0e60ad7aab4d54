"""Made vectors that lie as a sentence encoder's do: in topics, and topics of topics.

In: how many, which. Out: float32 unit vectors, the same for the same seed, a block at a time.

    for block in clustered(1_000_000, 384): ...

A vector is a common direction, a broad topic, a narrow topic and something of its own, all four
drawn from directions of falling weight. The weights bring 11,429 such vectors close to MiniLM's of
npl_vaswani (real / made by these weights and a common part of .38): cosine to a random vector
.13 / .16, its deviation .13 / .13, median cosine to the 1st, 10th and 100th neighbour .69, .58, .45
/ .71, .63, .46, of a query to the 1st and 100th .68, .44 / .70, .45, and the share of variance in
the first 10, 50 and 100 principal directions .31, .62, .79 / .35, .65, .79.
"""

from collections.abc import Iterator

import numpy as np

BLOCK = 50_000
_BROAD, _ROWS_A_TOPIC = 60, 5
_COMMON, _OF_BROAD, _OF_NARROW, _OWN = 0.34, 0.48, 0.45, 0.6
_FALL = 0.42
_TOPICS, _PASSAGES, _QUERIES = 1, 2, 3


def clustered(rows: int, dimension: int, start: int = 0) -> Iterator[np.ndarray]:
    """Unit vectors [BLOCK, d] a block, the last one shorter; of `rows` from the row `start`."""
    topics = _Topics(rows, dimension)
    for first in range(start - start % BLOCK, rows, BLOCK):
        block = topics.draw([_PASSAGES, first], min(BLOCK, rows - first))
        yield block[max(0, start - first) :]


def clustered_queries(rows: int, dimension: int, count: int) -> np.ndarray:
    """Unit vectors [count, d] from the same topics as `rows` vectors, none of those among them."""
    return _Topics(rows, dimension).draw([_QUERIES], count)


class _Topics:
    def __init__(self, rows: int, dimension: int) -> None:
        generator = np.random.default_rng([_TOPICS])
        self._weights = np.arange(1, dimension + 1, dtype=np.float32) ** -_FALL
        self._weights /= np.linalg.norm(self._weights)
        self._turn, _ = np.linalg.qr(generator.standard_normal((dimension, dimension)))
        self._turn = self._turn.astype(np.float32)
        common = self._spread(generator, 1)
        broad = self._spread(generator, _BROAD)
        narrow = self._spread(generator, max(_BROAD, rows // _ROWS_A_TOPIC))
        owners = generator.integers(_BROAD, size=len(narrow))
        self._centres = _COMMON * common + _OF_BROAD * broad[owners] + _OF_NARROW * narrow
        # Some topics have many passages, most have few.
        shares = generator.pareto(1.5, len(narrow)) + 0.2
        self._shares = np.cumsum(shares / shares.sum())

    def draw(self, seed: list[int], count: int) -> np.ndarray:
        generator = np.random.default_rng(seed)
        topics = np.searchsorted(self._shares, generator.random(count)).clip(
            max=len(self._centres) - 1
        )
        vectors = self._centres[topics] + _OWN * self._spread(generator, count)
        vectors @= self._turn
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _spread(self, generator: np.random.Generator, count: int) -> np.ndarray:
        shape = count, len(self._weights)
        return generator.standard_normal(shape, np.float32) * self._weights
