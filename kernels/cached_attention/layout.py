"""Where the cached tokens of each request lie: any spans of one pool of keys and values.

In: per request its instruction's and its passages' spans in the pool, and the length of its query
block. Out: the same view of blocks that `BlockLayout` gives, for attention and block scores.

    CachedLayout.build([CachedRequest(Span(0, 4), [Span(40, 90), Span(4, 17)], query=8)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch

from kernels.layout import Memo, RequestSpans, Span, whole_name


class CachedRequest(NamedTuple):
    """Pool spans [start, end) of one request's blocks, and the token count of its query block."""

    instruction: tuple[int, int]
    passages: Sequence[tuple[int, int]]
    query: int


@dataclass(frozen=True)
class CachedLayout(Memo):
    """R requests over one pool; requests may share passages. Make it with `build`."""

    requests: tuple[CachedRequest, ...]
    device: torch.device

    @classmethod
    def build(
        cls, requests: Sequence[CachedRequest], device: torch.device | str = "cpu"
    ) -> CachedLayout:
        """Lay out `requests`; ValueError for a span that ends before it starts."""
        plain = tuple(
            CachedRequest(Span(*r[0]), tuple(Span(*span) for span in r[1]), int(r[2]))
            for r in requests
        )
        for index, (instruction, passages, query) in enumerate(plain):
            if query < 0 or any(not 0 <= a <= b for a, b in (instruction, *passages)):
                raise ValueError(
                    f"request {index} has a span that ends before it starts, or a negative length: "
                    f"{plain[index]}"
                )
        return cls(plain, whole_name(device))

    @cached_property
    def spans(self) -> tuple[RequestSpans, ...]:
        """Per request the pool spans of its instruction and passages, and its rows of q."""
        ends = list(accumulate((r.query for r in self.requests), initial=0))
        return tuple(
            RequestSpans(Span(*r.instruction), tuple(Span(*p) for p in r.passages), Span(a, b))
            for r, a, b in zip(self.requests, ends, ends[1:], strict=False)
        )

    @property
    def num_requests(self) -> int:
        """R."""
        return len(self.requests)

    @cached_property
    def num_queries(self) -> int:
        """Tokens of all query blocks."""
        return sum(r.query for r in self.requests)

    @cached_property
    def pool_end(self) -> int:
        """The token after the last one of the pool that any request reads."""
        return max(
            (span[1] for r in self.requests for span in (r.instruction, *r.passages)), default=0
        )
