"""The states of the passages that one request asks for, read out of a cache's shards.

Enters: shards, an instruction, places. Leaves: floats [T, H, D] by name, read when asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from rerank.cache.identity import CacheIdentity
from rerank.cache.precision import Rows, decode
from rerank.cache.shard import CacheShard


class Place(NamedTuple):
    """Where a passage lies: which shard, and its number there."""

    shard: int
    passage: int


class SelectedStates(Mapping[str, torch.Tensor]):
    """The instruction's and some passages' states [T, H, D] by name, read when asked for."""

    def __init__(
        self,
        shards: Sequence[CacheShard],
        instruction: Mapping[str, torch.Tensor],
        identity: CacheIdentity,
        places: Sequence[Place],
        device: torch.device,
    ) -> None:
        """The states of the passages at `places`, in that order within a shard, on `device`."""
        self.instruction, self.identity, self.device = instruction, identity, device
        grouped: dict[int, list[int]] = {}
        for shard, passage in places:
            grouped.setdefault(shard, []).append(passage)
        self.picks = [(shards[number], picked) for number, picked in grouped.items()]
        self.rows: list[tuple[CacheShard, Rows]] = [
            (shard, shard.rows(picked)) for shard, picked in self.picks
        ]

    @property
    def lengths(self) -> list[int]:
        """Token counts of the passages."""
        return [n for shard, picked in self.picks for n in shard.lengths[picked].tolist()]

    def key_mask(self, before: int) -> torch.Tensor:
        """bool [T] on the host; `before` tokens are the instruction's, whose keys never count."""
        return self._behind(before, [shard.key_mask[rows.tokens] for shard, rows in self.rows])

    def words(self, before: int) -> torch.Tensor:
        """int32 [T] on the host: the numbers of passages' words, 0 for the `before`."""
        return self._behind(before, [shard.words[rows.tokens] for shard, rows in self.rows])

    def _behind(self, before: int, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """`parts` in one row behind `before` zeros."""
        return torch.cat([parts[0].new_zeros(before), *parts])

    def passage_vectors(self) -> dict[str, torch.Tensor]:
        """The passages' own vectors [P, d] by name."""
        return {
            name: torch.cat([shard.passages[name][picked] for shard, picked in self.picks]).to(
                self.device, getattr(torch, dtype)
            )
            for name, (_, dtype) in self.identity.passages.items()
        }

    def __getitem__(self, name: str) -> torch.Tensor:
        """[T, H, D] in the backbone's own dtype."""
        _, size, dtype = self.identity.tokens[name]
        parts = [self.instruction[name]] if len(self.instruction[name]) else []
        parts += [decode(name, shard.tokens, rows, size) for shard, rows in self.rows]
        # One part is passed on as it lies, in a file's mapped memory perhaps.
        states = parts[0] if len(parts) == 1 else torch.cat([part.float() for part in parts])
        return states.to(self.device, getattr(torch, dtype))

    def __iter__(self) -> Iterator[str]:
        return iter(self.identity.tokens)

    def __len__(self) -> int:
        return len(self.identity.tokens)
