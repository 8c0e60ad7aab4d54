"""Live passages taken out of old shards, and put together for new ones of an even size.

Enters: shards, and which of their rows are kept. Leaves: pieces of so many passages each.

    for piece in regrouped(pieces, size=2048): change.add_shard(*piece)
"""

from collections.abc import Iterable, Iterator
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from index.disk.files import check_digest
from index.manifest.segments import ShardRecord
from index.records import Passage
from index.store.precision import StoredVectors, concatenated
from index.store.shards import VectorTable, read_passages


class Piece(NamedTuple):
    """Some passages, their vectors as stored, and how many of them at most were truncated."""

    passages: list[Passage]
    vectors: StoredVectors
    truncated: int


def read_piece(
    data: Path, shard: ShardRecord, dimension: int, precision: str, kept: np.ndarray
) -> Piece:
    """What of a shard is kept, bool [n].

    Raises `ValueError` when a file of it has changed since it was written: a copy would hide that.
    """
    for name, digest in shard.digests.items():
        check_digest(data, name, digest)
    vectors = VectorTable(data, [shard], dimension, precision).stored_part(0)
    passages = list(compress(read_passages(data, shard), kept.tolist()))
    # Which ones were truncated is not on record: maybe all of those that are kept.
    return Piece(passages, vectors.rows(kept), min(shard.truncated, len(passages)))


def regrouped(pieces: Iterable[Piece], size: int) -> Iterator[Piece]:
    """The same passages in the same order, `size` at a time."""
    passages: list[Passage] = []
    vectors: list[StoredVectors] = []
    truncated = 0
    for piece in pieces:
        start, left = 0, piece.truncated
        while start < len(piece.passages):
            part = slice(start, start + size - len(passages))
            start += len(piece.passages[part])
            passages += piece.passages[part]
            vectors.append(piece.vectors.rows(part))
            cut = min(left, len(piece.passages[part]))
            truncated, left = truncated + cut, left - cut
            if len(passages) == size:
                yield Piece(passages, concatenated(vectors), truncated)
                passages, vectors, truncated = [], [], 0
    if passages:
        yield Piece(passages, concatenated(vectors), truncated)
