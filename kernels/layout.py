"""Where every block of a packed batch lies: what all kernels and all layers of one batch share.

In: token counts of the blocks of each request. Out: offsets, positions and token-to-passage maps,
on the host as tuples and on the device as tensors that are made on first use and kept.

    BlockLayout.build([RequestBlocks(instruction=4, passages=[7, 5], query=3)]).positions()

A batch is packed without padding. One request after the other, each is

    instruction | passage 1 | ... | passage N | query

and any of these blocks may be empty. A token of an instruction or passage block attends to the
instruction and to its own block; a token of the query block attends to its whole request
(BlockRank, arXiv 2510.05396, section 3). With causal attention a token sees its own block only up
to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Protocol

import torch

from kernels.host import to_device

_INT32_MAX = 2**31 - 1


class RequestBlocks(NamedTuple):
    """Token counts of one request's blocks; every one of them may be 0."""

    instruction: int
    passages: Sequence[int]
    query: int


class Span(NamedTuple):
    """Tokens [start, end) of the packed batch."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.end - self.start


def pieces(span: Span, size: int) -> list[Span]:
    """`span` in order, cut into pieces of at most `size` tokens."""
    return [Span(a, min(a + size, span.end)) for a in range(span.start, span.end, size)]


class RequestSpans(NamedTuple):
    """Where one request's blocks lie in the packed batch."""

    instruction: Span
    passages: tuple[Span, ...]
    query: Span


class Memo:
    """Values that follow from a layout, made at first use; they live as long as the layout."""

    def memo(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """The value made by `build` at the first call with `key`.

        Kernels keep their tile tables and plans here, so that all layers of a batch share them.
        """
        if key not in self._memo:
            self._memo[key] = build()
        return self._memo[key]

    @cached_property
    def _memo(self) -> dict[Hashable, Any]:
        return {}


class PassageSpans(Protocol):
    """What block scores need of a layout: a `BlockLayout`, or the places of cached passages."""

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""

    @property
    def spans(self) -> tuple[RequestSpans, ...]:
        """The blocks of each request."""

    def memo(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """As `Memo.memo`."""


@dataclass(frozen=True)
class BlockLayout(Memo):
    """The blocks of R packed requests; equal and hashable by token counts and device.

    Make it with `build`. M is the number of blocks (N + 2 a request), P of passages, T of tokens.
    """

    requests: tuple[RequestBlocks, ...]
    device: torch.device

    @classmethod
    def build(
        cls, requests: Sequence[RequestBlocks], device: torch.device | str = "cpu"
    ) -> BlockLayout:
        """Lay out `requests`, whose tensors will live on `device`.

        Raises ValueError for a negative token count, or more tokens than an int32 can number.
        """
        plain = tuple(
            RequestBlocks(int(r[0]), tuple(int(n) for n in r[1]), int(r[2])) for r in requests
        )
        for index, (instruction, passages, query) in enumerate(plain):
            if min((instruction, query, *passages)) < 0:
                raise ValueError(f"request {index} has a block of negative length: {plain[index]}")
        layout = cls(plain, whole_name(device))
        if layout.num_tokens > _INT32_MAX:
            raise ValueError(
                f"{layout.num_tokens} tokens in one call; at most {_INT32_MAX}: split the batch"
            )
        return layout

    def to(self, device: torch.device | str) -> BlockLayout:
        """The same layout for tensors on `device` (itself when it is there already)."""
        device = whole_name(device)
        return self if device == self.device else BlockLayout(self.requests, device)

    @cached_property
    def _hash(self) -> int:
        return hash((self.requests, self.device))

    def __hash__(self) -> int:
        return self._hash

    # On the host.

    @cached_property
    def block_lengths(self) -> tuple[int, ...]:
        """Token count of each of the M blocks."""
        return tuple(
            n
            for instruction, passages, query in self.requests
            for n in (instruction, *passages, query)
        )

    @cached_property
    def block_bounds(self) -> tuple[int, ...]:
        """M + 1 token offsets of the blocks."""
        return tuple(accumulate(self.block_lengths, initial=0))

    @cached_property
    def request_bounds(self) -> tuple[int, ...]:
        """R + 1 block offsets of the requests; first block = instruction, last = query."""
        return tuple(accumulate((len(r.passages) + 2 for r in self.requests), initial=0))

    @cached_property
    def passage_bounds(self) -> tuple[int, ...]:
        """R + 1 offsets of the requests in the flat list of all P passages."""
        return tuple(accumulate((len(r.passages) for r in self.requests), initial=0))

    @cached_property
    def spans(self) -> tuple[RequestSpans, ...]:
        """The blocks of each request as token spans."""
        bounds, result = self.block_bounds, []
        for first, end in pairwise(self.request_bounds):
            blocks = [Span(bounds[b], bounds[b + 1]) for b in range(first, end)]
            result.append(RequestSpans(blocks[0], tuple(blocks[1:-1]), blocks[-1]))
        return tuple(result)

    @property
    def num_tokens(self) -> int:
        """T, the tokens of all requests."""
        return self.block_bounds[-1]

    @property
    def num_blocks(self) -> int:
        """M, the blocks of all requests, empty ones included."""
        return len(self.block_lengths)

    @property
    def num_requests(self) -> int:
        """R."""
        return len(self.requests)

    @property
    def num_passages(self) -> int:
        """P, the passages of all requests, empty ones included."""
        return self.passage_bounds[-1]

    # On the device.

    def _int32(self, values: Sequence[int]) -> torch.Tensor:
        return to_device(torch.tensor(values, dtype=torch.int32), self.device)

    @cached_property
    def block_offsets(self) -> torch.Tensor:
        """int32 [M+1], token offset of each block."""
        return self._int32(self.block_bounds)

    @cached_property
    def request_offsets(self) -> torch.Tensor:
        """int32 [R+1], block offset of each request."""
        return self._int32(self.request_bounds)

    @cached_property
    def passage_offsets(self) -> torch.Tensor:
        """int32 [R+1], offset of each request in the flat list of passages."""
        return self._int32(self.passage_bounds)

    @cached_property
    def passage_starts(self) -> torch.Tensor:
        """int32 [P], first token of each passage."""
        return self._int32([span.start for spans in self.spans for span in spans.passages])

    @cached_property
    def passage_ends(self) -> torch.Tensor:
        """int32 [P], the token after each passage's last."""
        return self._int32([span.end for spans in self.spans for span in spans.passages])

    @cached_property
    def passage_request(self) -> torch.Tensor:
        """int64 [P], the request of each passage."""
        return self._repeat(range(self.num_requests), [len(r.passages) for r in self.requests])

    @cached_property
    def token_block(self) -> torch.Tensor:
        """int64 [T], the block of each token."""
        return self._repeat(range(self.num_blocks), self.block_lengths)

    @cached_property
    def token_request(self) -> torch.Tensor:
        """int64 [T], the request of each token."""
        tokens = [self.block_bounds[b] for b in self.request_bounds]
        lengths = [end - start for start, end in pairwise(tokens)]
        return self._repeat(range(self.num_requests), lengths)

    @cached_property
    def token_passage(self) -> torch.Tensor:
        """int64 [T], the flat passage index of each token, -1 outside passages."""
        owners: list[int] = []
        for passages in pairwise(self.passage_bounds):
            owners += [-1, *range(*passages), -1]
        return self._repeat(owners, self.block_lengths)

    @cached_property
    def passage_tokens(self) -> torch.Tensor:
        """int64, the tokens of passages in order."""
        is_passage = [mark for r in self.requests for mark in (0, *([1] * len(r.passages)), 0)]
        marks = _repeated(is_passage, self.block_lengths)
        return to_device(marks.nonzero()[:, 0], self.device)

    def _repeat(self, values: Sequence[int], times: Sequence[int]) -> torch.Tensor:
        return to_device(_repeated(values, times), self.device)

    def positions(self, query_start: int | None = None) -> torch.Tensor:
        """int64 [T], the position of each token for the model's position embedding.

        The instruction starts at 0, every passage right after its instruction (so all passages
        share their positions and their order cannot matter), the query block at `query_start`, or
        right after the longest passage when that is None.
        """
        return self.memo(("positions", query_start), lambda: self._positions(query_start))

    def last_position(self, query_start: int | None = None) -> int:
        """The highest of `positions`, known without asking the device; -1 without a token."""
        ends = zip(self._first_positions(query_start), self.block_lengths, strict=True)
        return max((first + length - 1 for first, length in ends if length), default=-1)

    def _positions(self, query_start: int | None) -> torch.Tensor:
        firsts = self._first_positions(query_start)
        shift = [first - start for first, start in zip(firsts, self.block_bounds, strict=False)]
        index = torch.arange(self.num_tokens)
        return to_device(index + _repeated(shift, self.block_lengths), self.device)

    def _first_positions(self, query_start: int | None) -> list[int]:
        """The position of the first token of each block."""
        firsts: list[int] = []
        for instruction, passages, _ in self.requests:
            after = instruction + max(passages, default=0)
            firsts += [0, *([instruction] * len(passages))]
            firsts.append(after if query_start is None else query_start)
        return firsts


def _repeated(values: Sequence[int], times: Sequence[int]) -> torch.Tensor:
    """int64 on the host: each of `values` as often as `times` says."""
    counts = torch.tensor(times, dtype=torch.int64)
    return torch.tensor(values, dtype=torch.int64).repeat_interleave(counts)


def whole_name(device: torch.device | str) -> torch.device:
    """`cuda` names the current device, as a tensor's own device does."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
