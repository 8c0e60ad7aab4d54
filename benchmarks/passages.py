"""Made-up passages for the rerankers' benchmarks: their lengths count, their words do not.

In: how many, and how long. Out: texts.

    make_passages(100, 100)
"""

import numpy as np

QUERY = "which library function opens a file for a search engine"
WORDS = ["search", "query", "passage", "rank", "token", "index", "vector", "block", "attention"]


def make_passages(count: int, mean_tokens: int, seed: int = 0) -> list[str]:
    """Ragged passages: log-normal lengths with that mean, cut at twice the mean."""
    generator = np.random.default_rng(seed)
    spread = 0.5
    lengths = generator.lognormal(np.log(mean_tokens) - spread**2 / 2, spread, count)
    lengths = np.clip(lengths.round().astype(int), 4, 2 * mean_tokens)
    return [" ".join(generator.choice(WORDS, length)) for length in lengths]
