"""One encoder in this process: the engine of a build that asks for no other.

LocalEngine(Encoder.load("minilm")).records(shards, writer.write)
"""

from collections.abc import Iterable, Iterator

from configs.formats.chunks import TokenCounter
from index.manifest.manifest import EncoderRecord
from index.manifest.segments import ShardRecord
from retrieval.encoder import Encoder
from retrieval.engines.protocol import NumberedShard, WriteShard


class LocalEngine:
    """Encodes a shard, writes it, takes the next."""

    remote = False

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def record(self) -> EncoderRecord:
        """The encoder, as it was loaded."""
        return self._encoder.record

    def token_counter(self) -> TokenCounter:
        """The encoder's own."""
        return self._encoder.token_counter()

    def records(self, shards: Iterable[NumberedShard], write: WriteShard) -> Iterator[ShardRecord]:
        """The record of every shard, in order."""
        for number, passages in shards:
            yield write(number, passages, *self._encoder.encode_passages(passages))
