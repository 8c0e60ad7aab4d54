"""Attention and scores over cached passages: as over fresh ones, up to the cache's rounding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import MIXED, qkv, relative_error, requests

from kernels import (
    BlockLayout,
    CachedLayout,
    CachedRequest,
    QuantizedTokens,
    block_attention,
    block_score,
    cached_attention,
    cached_block_score,
    quantize_tokens,
)

heads = st.sampled_from([(1, 1), (4, 4), (6, 2), (8, 1)])


def cached_from(layout: BlockLayout) -> CachedLayout:
    """The cache is the packed batch itself, query tokens and all."""
    return CachedLayout.build(
        [CachedRequest(s.instruction, s.passages, s.query.length) for s in layout.spans]
    )


def query_rows(layout: BlockLayout) -> torch.Tensor:
    return torch.cat([torch.arange(*s.query) for s in layout.spans])


def stored(x: torch.Tensor, bits: int) -> QuantizedTokens:
    return QuantizedTokens(x) if bits == 16 else quantize_tokens(x, bits)


@settings(deadline=None, max_examples=20)
@given(requests, heads, st.sampled_from([32, 80]), st.booleans())
def test_an_unquantised_cache_gives_block_attention_s_query_rows(
    blocks, head_counts, head_size, causal
):
    layout = BlockLayout.build(blocks)
    q, k, v = qkv(layout, *head_counts, head_size)
    rows = query_rows(layout)
    wanted, wanted_lse = block_attention(q, k, v, layout, causal=causal, return_lse=True)
    o, lse = cached_attention(
        q[rows],
        k[rows],
        v[rows],
        QuantizedTokens(k),
        QuantizedTokens(v),
        cached_from(layout),
        causal=causal,
    )
    assert torch.equal(o, wanted[rows])
    assert torch.equal(lse, wanted_lse[:, rows])


@settings(deadline=None, max_examples=20)
@given(
    requests,
    heads,
    st.sampled_from([16, 8, 4]),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    st.booleans(),
)
def test_matches_the_reference_over_the_same_cache(blocks, head_counts, bits, dtype, causal):
    layout = BlockLayout.build(blocks)
    q, k, v = qkv(layout, *head_counts, 32, dtype)
    rows = query_rows(layout)
    cache = stored(k, bits), stored(v, bits)
    arguments = (q[rows], k[rows], v[rows], *cache, cached_from(layout))
    o, lse = cached_attention(*arguments, causal=causal)
    wide = [x.double() for x in arguments[:3]]
    exact, exact_lse = cached_attention(
        *wide, *arguments[3:], causal=causal, implementation="reference"
    )
    assert o.dtype == dtype
    assert relative_error(o, exact) <= (1e-2 if dtype == torch.bfloat16 else 1e-5)
    assert relative_error(lse, exact_lse) <= 1e-5
    owners = list(range(layout.num_requests)) * 2
    signals = torch.randn(len(owners), head_counts[0], 32).to(dtype)
    scores = cached_block_score(signals, cache[0], arguments[5], signal_request=owners)
    wanted = cached_block_score(
        signals.double(),
        cache[0],
        arguments[5],
        signal_request=owners,
        implementation="reference",
    )
    assert relative_error(scores.mass, wanted.mass) <= 1e-5


def test_scores_over_an_unquantised_cache_are_block_scores():
    layout = BlockLayout.build(MIXED)
    q, k, _ = qkv(layout, 4, 2, 32)
    owners = [0, 4, 0, 1]
    mask = torch.rand(layout.num_tokens) < 0.8
    wanted = block_score(q[:4], k, layout, signal_request=owners, key_mask=mask)
    got = cached_block_score(
        q[:4], QuantizedTokens(k), cached_from(layout), signal_request=owners, key_mask=mask
    )
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_place_order_sharing_and_poison_change_no_bit(bits):
    """Two requests share a passage of a pool whose other tokens are NaN."""
    generator = torch.Generator().manual_seed(5)
    blocks = [torch.randn(n, 2, 32, generator=generator) for n in (4, 33, 70)]
    pools = []
    for starts in ((0, 10, 100), (150, 90, 3)):
        pool = torch.full((200, 2, 32), torch.nan)
        for start, block in zip(starts, blocks, strict=True):
            pool[start : start + len(block)] = block
        cache = stored(pool, bits)
        spans = [(s, s + len(b)) for s, b in zip(starts, blocks, strict=True)]
        pools.append((cache, spans))
    q = torch.randn(6, 4, 32, generator=generator)
    own = torch.randn(6, 2, 32, generator=generator)
    results, scores = [], []
    for (cache, spans), order in zip(pools, ((1, 2), (2, 1)), strict=True):
        layout = CachedLayout.build(
            [
                CachedRequest(spans[0], [spans[i] for i in order], 5),
                CachedRequest((0, 0), [spans[1]], 1),
            ]
        )
        results.append(cached_attention(q, own, own, cache, cache, layout, causal=True))
        score = cached_block_score(q[:2], cache, layout, signal_request=[0, 1])
        first = score.mass[:, 0]
        scores.append(first if order == (1, 2) else first.flip(-1))
    assert not results[0][0].isnan().any()
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(*scores)


@pytest.mark.parametrize(("bits", "error"), [(8, 0.01), (4, 0.15)])
def test_rounding_is_at_most_half_a_scale(bits, error):
    x = torch.randn(50, 3, 64) * torch.rand(50, 1, 1) * 100
    x[7] = 0
    tokens = quantize_tokens(x, bits)
    assert tokens.shape == x.shape
    assert tokens.bits == bits
    difference = (tokens.tokens(slice(None)) - x).abs()
    assert (difference <= tokens.scale[..., None] * 0.500001).all()
    assert relative_error(tokens.tokens(slice(None)), x) < error
    stored_bytes = tokens.values.nbytes + tokens.scale.nbytes
    assert stored_bytes == 50 * 3 * (64 * bits // 8 + 4)
    assert torch.equal(
        tokens.heads(slice(1, 2)).tokens(slice(3, 5)), tokens.tokens(slice(3, 5))[:, 1:2]
    )


def test_arguments_that_do_not_fit_are_refused():
    layout = CachedLayout.build([CachedRequest((0, 2), [(2, 9)], 3)])
    q, k = torch.zeros(3, 4, 32), torch.zeros(3, 2, 32)
    pool = QuantizedTokens(torch.zeros(9, 2, 32))
    small = QuantizedTokens(torch.zeros(8, 2, 32))
    with pytest.raises(ValueError, match="reads tokens up to 9; the cache has 8"):
        cached_attention(q, k, k, small, small, layout, causal=True)
    with pytest.raises(ValueError, match="q has 2 tokens and the layout 3"):
        cached_attention(q[:2], k[:2], k[:2], pool, pool, layout, causal=True)
    with pytest.raises(ValueError, match="keys and values in the same bits"):
        cached_attention(q, k, k, pool, quantize_tokens(pool.values, 8), layout, causal=True)
    with pytest.raises(ValueError, match="request 0 has a span that ends before it starts"):
        CachedLayout.build([CachedRequest((0, 2), [(9, 2)], 3)])
    with pytest.raises(ValueError, match="bits must be 8, or 4 with an even head size"):
        quantize_tokens(torch.zeros(2, 2, 33), 4)
