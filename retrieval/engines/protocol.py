"""What every engine is: shards in, their records out.

with start_engine(LoadEncoder("minilm"), workers=2) as engine:
    for record in engine.records(shards, writer.write):
        writer.accept(record)
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from configs.formats.chunks import TokenCounter
from index.manifest.manifest import EncoderRecord
from index.manifest.segments import ShardRecord
from index.records import Passage


class NumberedShard(NamedTuple):
    """The passages of one shard, and its number in the build."""

    number: int
    passages: list[Passage]


class WriteShard(Protocol):
    """Puts a shard where it belongs; called where the engine runs, so that it may travel there."""

    def __call__(
        self, number: int, passages: Sequence[Passage], vectors: np.ndarray, truncated: int
    ) -> ShardRecord:
        """Write shard `number`: its passages, float32 vectors [n, d], how many were truncated."""
        ...


class Engine(Protocol):
    """Encodes shards, one after the other or many at once."""

    @property
    def record(self) -> EncoderRecord:
        """The encoder, as it was loaded."""
        ...

    def token_counter(self) -> TokenCounter:
        """What counts tokens in this process as the encoder does."""
        ...

    @property
    def remote(self) -> bool:
        """Whether `write` is called in other processes, which may outlive this one."""
        ...

    def records(self, shards: Iterable[NumberedShard], write: WriteShard) -> Iterator[ShardRecord]:
        """The record of every shard, in the order of `shards`, each once its files are whole.

        No more shards are read ahead than there are workers to keep busy. Raises what reading a
        shard raises, and `RuntimeError` for a worker that is gone.
        """
        ...
