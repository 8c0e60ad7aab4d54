"""The bar of a build or an addition: passages a second, and the time that is left.

Enters: the reading of a corpus, and how many passages were encoded. Leaves: a bar on stderr where
that is a terminal.

    with encoding_progress(reading) as advance: advance(2048)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from retrieval.corpora.reading import Reading


@contextmanager
def encoding_progress(reading: Reading) -> Iterator[Callable[[int], None]]:
    """A function that takes the number of passages that were encoded since it was last called."""
    with tqdm(desc="encode", unit=" passages", total=reading.expected(0), disable=None) as bar:

        def advance(passages: int) -> None:
            bar.total = reading.expected(int(bar.n) + passages)
            bar.update(passages)

        yield advance
