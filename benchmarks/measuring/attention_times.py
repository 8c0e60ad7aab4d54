"""Times of the kernels beside the floor and, for block attention, beside its peers.

In: a `Case` and the chip's measured rates (flops, bytes) a second. Out: `Row`s, where
floor = max(flops / matrix rate, bytes / copy rate).

    attention_rows(case, ["per_block_sdpa"], chip, rounds=5)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kernels import (
    CachedLayout,
    CachedRequest,
    QuantizedTokens,
    block_attention,
    block_score,
    cached_attention,
    quantize_tokens,
)
from measuring.attention_cases import QUERY, Case, attention_work, floor_ms
from measuring.attention_peers import peer_calls
from measuring.timing import Call, side_by_side

Chip = tuple[float, float]


class Row(NamedTuple):
    """One line of a table; times in milliseconds, `ratio` as multiples of ours."""

    operation: str
    shape: str
    passages: int
    tokens: int
    method: str
    ms: float
    ratio: float
    floor_ms: float


def attention_rows(
    case: Case, methods: list[str], chip: Chip, rounds: int, flex: Any = None
) -> list[Row]:
    """Block attention and the peers `methods`, timed in turns."""
    layout, shape = case.layout, case.shape
    ours: Call = lambda: block_attention(  # noqa: E731
        case.q, case.k, case.v, layout, causal=shape.causal
    )
    calls = {"ours": ours} | peer_calls(case, methods, flex)
    best, ratios = side_by_side(calls, rounds, layout.device)
    floor = floor_ms(attention_work(layout, shape, case.q.dtype), chip)
    return [
        _row(case, "block_attention", t, floor)._replace(method=name, ratio=ratios[name])
        for name, t in best.items()
    ]


def score_row(case: Case, chip: Chip, rounds: int) -> Row:
    """Block scores of two signal tokens: each key once."""
    layout, shape, k = case.layout, case.shape, case.k
    signals = case.q[-2:].contiguous()
    call: Call = lambda: block_score(signals, k, layout, signal_request=[0, 0])  # noqa: E731
    best, _ = side_by_side({"ours": call}, rounds, layout.device)
    keys = sum(layout.requests[0].passages) * shape.kv_heads * shape.head_size
    return _row(case, "block_score", best["ours"], floor_ms((0, keys * k.dtype.itemsize), chip))


def cached_rows(case: Case, chip: Chip, rounds: int) -> Iterator[Row]:
    """Attention of the query block alone over keys and values in 16, 8 and 4 bits."""
    spans, device = case.layout.spans[0], case.layout.device
    cached = CachedLayout.build([CachedRequest(spans.instruction, spans.passages, QUERY)], device)
    query = slice(*spans.query)
    fresh = [x[query].contiguous() for x in (case.q, case.k, case.v)]
    for bits in (16, 8, 4):
        pools = [
            QuantizedTokens(x.contiguous()) if bits == 16 else quantize_tokens(x, bits)
            for x in (case.k, case.v)
        ]
        stored = sum(x.values.nbytes + (0 if x.scale is None else x.scale.nbytes) for x in pools)

        def call(pools: list[QuantizedTokens] = pools) -> object:
            return cached_attention(*fresh, *pools, cached, causal=case.shape.causal)

        best, _ = side_by_side({"ours": call}, rounds, device)
        name = f"cached_attention {pools[0].bits} bit"
        yield _row(case, name, best["ours"], floor_ms((0, stored), chip))


def growth(case: Case, double: Case, rounds: int) -> float:
    """Median of the time of `double`, of twice the passages, by that of `case`, in turns."""

    def call(one: Case) -> Call:
        causal = one.shape.causal
        return lambda: block_attention(one.q, one.k, one.v, one.layout, causal=causal)

    calls = {"once": call(case), "double": call(double)}
    return side_by_side(calls, rounds, case.layout.device)[1]["double"]


def _row(case: Case, operation: str, seconds: float, floor: float) -> Row:
    return Row(
        operation, case.shape.name, case.passages, case.tokens, "ours", seconds * 1e3, 1.0, floor
    )
