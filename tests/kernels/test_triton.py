"""The Triton kernels against the float64 reference: on a GPU, or small in Triton's interpreter.

The interpreter must be chosen before anything imports Triton, so `test_triton_interpreter` runs
this file in a process of its own.
"""

from importlib import import_module

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cases import qkv, relative_error
from triton_cases import DEVICE, GPU, TOLERANCE, needs_triton

import kernels.tiles
from kernels import (
    BlockLayout,
    CachedLayout,
    CachedRequest,
    QuantizedTokens,
    RequestBlocks,
    block_attention,
    block_score,
    cached_attention,
    cached_block_score,
    quantize_tokens,
)

pytestmark = needs_triton
# The interpreter upcasts both 16-bit types alike; a GPU has instructions of their own for each.
EACH_WAY = list(TOLERANCE) if GPU else [torch.float32, torch.bfloat16]
lengths = st.one_of(st.sampled_from([0, 1, 31, 32, 33]), st.integers(0, 4000 if GPU else 45))
small_requests = st.lists(
    st.builds(
        RequestBlocks,
        instruction=st.integers(0, 12),
        passages=st.lists(lengths, max_size=60 if GPU else 3),
        query=st.integers(0, 20),
    ),
    min_size=1,
    max_size=8 if GPU else 2,
)
shapes = st.sampled_from([(1, 1, 32), (4, 2, 16), (7, 1, 40), (3, 3, 80), (8, 1, 64)])
dtypes = st.sampled_from(list(TOLERANCE))
searched = settings(
    deadline=None,
    max_examples=200 if GPU else 14,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
EDGES = [RequestBlocks(5, [7, 0, 1, 40], 9), RequestBlocks(0, [3], 20), RequestBlocks(3, [], 0)]


@pytest.fixture
def split_tokens(monkeypatch):
    """Cut runs of keys after 32 tokens, so that small shapes reach the merging kernels too."""
    monkeypatch.setattr(kernels.tiles, "SPLIT_TOKENS", 32)


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch):
    """Fresh memory is filled with NaN, so a byte that no kernel wrote would show."""
    empty = torch.empty

    def poisoned(*args, **options):
        fresh = empty(*args, **options)
        # Triton's interpreter asks for bare memory of its own.
        return fresh.fill_(torch.nan) if "dtype" in options else fresh

    monkeypatch.setattr(torch, "empty", poisoned)


def check_attention(blocks, shape, dtype, causal):
    layout = BlockLayout.build(blocks, device=DEVICE)
    inputs = [x.requires_grad_() for x in qkv(layout, *shape, dtype)]
    o, lse = block_attention(
        *inputs, layout, causal=causal, return_lse=True, implementation="triton"
    )
    upstream = torch.randn(o.shape, generator=torch.Generator().manual_seed(1)).to(o)
    grads = torch.autograd.grad(o, inputs, upstream)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    exact, exact_lse = block_attention(
        *wide, layout, causal=causal, return_lse=True, implementation="reference"
    )
    assert relative_error(o, exact) <= TOLERANCE[dtype]
    assert relative_error(lse, exact_lse) <= 1e-5
    if layout.num_tokens:
        floor = upstream.double().norm().item()
        for got, want in zip(
            grads, torch.autograd.grad(exact, wide, upstream.double()), strict=True
        ):
            # A softmax over one key has no gradient: measure against the upstream's size there.
            assert (got.double() - want).norm().item() <= TOLERANCE[dtype] * max(
                want.norm().item(), floor
            )


@searched
@given(small_requests, shapes, dtypes, st.booleans(), st.sampled_from([32, 1024]))
def test_attention_and_its_gradients(blocks, shape, dtype, causal, split):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels.tiles, "SPLIT_TOKENS", split)
        check_attention(blocks, shape, dtype, causal)


@pytest.mark.parametrize("dtype", EACH_WAY)
@pytest.mark.parametrize("head_size", [128, 256])
def test_attention_at_large_head_sizes(head_size, dtype):
    check_attention(EDGES, (2, 1, head_size), dtype, causal=True)


def test_attention_reads_no_token_of_another_request_and_no_gap_of_a_view(split_tokens):
    layout = BlockLayout.build(EDGES, device=DEVICE)
    wide = torch.full((layout.num_tokens, 3, 2, 48), torch.nan, device=DEVICE)
    wide[..., :32] = torch.randn(layout.num_tokens, 3, 2, 32)
    q, k, v = wide[..., :32].unbind(1)
    wanted = block_attention(
        q.clone(), k.clone(), v.clone(), layout, causal=False, implementation="triton"
    )
    assert torch.equal(
        block_attention(q, k, v, layout, causal=False, implementation="triton"), wanted
    )
    first = layout.spans[0].query.end
    wide[first:] = torch.nan
    again = block_attention(q, k, v, layout, causal=False, implementation="triton")
    assert torch.equal(again[:first], wanted[:first])
    # Within a request, a passage reads neither the query nor another passage.
    wide[:first][layout.token_block[:first] == 1] = torch.nan
    wide[layout.spans[0].query.start : first] = torch.nan
    again = block_attention(q, k, v, layout, causal=False, implementation="triton")
    passage = slice(*layout.spans[0].passages[3])
    assert torch.equal(again[passage], wanted[passage])


def test_a_request_alone_and_in_a_batch_has_the_same_bits(split_tokens):
    layout = BlockLayout.build(EDGES, device=DEVICE)
    q, k, v = qkv(layout, 4, 2, 32)
    o = block_attention(q, k, v, layout, causal=True, implementation="triton")
    for request, spans in zip(EDGES, layout.spans, strict=True):
        tokens = slice(spans.instruction.start, spans.query.end)
        alone = BlockLayout.build([request], device=DEVICE)
        inputs = [x[tokens].clone() for x in (q, k, v)]
        assert torch.equal(
            block_attention(*inputs, alone, causal=True, implementation="triton"), o[tokens]
        )


def check_scores(blocks, shape, dtype, masked, signals, seed):
    layout = BlockLayout.build(blocks, device=DEVICE)
    generator = torch.Generator().manual_seed(seed)
    owners = list(range(layout.num_requests)) * signals
    q = torch.randn(len(owners), shape[0], shape[2], generator=generator)
    q = q.to(DEVICE, dtype).requires_grad_()
    k = qkv(layout, *shape, dtype, seed)[1].requires_grad_()
    mask = None
    if masked:
        mask = (torch.rand(layout.num_tokens, generator=generator) < 0.5).to(DEVICE)
    wide = [x.detach().double().requires_grad_() for x in (q, k)]
    options = {"signal_request": owners, "scale": 0.3, "key_mask": mask}
    got = block_score(q, k, layout, **options, implementation="triton")
    wanted = block_score(*wide, layout, **options, implementation="reference")
    finite = wanted.log_sum_exp > -torch.inf
    assert torch.equal(got.log_sum_exp > -torch.inf, finite)
    assert relative_error(got.mass, wanted.mass) <= 1e-5
    assert relative_error(got.log_sum_exp[finite], wanted.log_sum_exp[finite]) <= 1e-5
    if finite.any():
        weight = torch.randn(finite.shape, generator=generator).to(DEVICE)
        grads = [
            torch.autograd.grad((x.mass * weight).sum() + x.log_sum_exp[finite].sum(), of)
            for x, of in ((got, (q, k)), (wanted, wide))
        ]
        for a, b in zip(*grads, strict=True):
            assert relative_error(a, b) <= TOLERANCE[dtype]


@searched
@given(
    small_requests,
    shapes,
    dtypes,
    st.booleans(),
    st.sampled_from([1, 2, 5]),
    st.integers(0, 2**31),
)
def test_block_score_and_its_gradients(blocks, shape, dtype, masked, signals, seed):
    check_scores(blocks, shape, dtype, masked, signals, seed)


def check_cached(blocks, shape, dtype, bits, causal):
    layout = BlockLayout.build(blocks, device=DEVICE)
    q, k, v = qkv(layout, *shape, dtype)
    rows = torch.cat([torch.arange(*s.query, device=DEVICE) for s in layout.spans])
    cache = [QuantizedTokens(x) if bits == 16 else quantize_tokens(x, bits) for x in (k, v)]
    spans = [CachedRequest(s.instruction, s.passages, s.query.length) for s in layout.spans]
    cached = CachedLayout.build(spans, device=DEVICE)
    fresh = [x[rows] for x in (q, k, v)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("kernels.cached_attention.triton"), "SPLIT_TOKENS", 64)
        o, lse = cached_attention(*fresh, *cache, cached, causal=causal, implementation="triton")
    exact, exact_lse = cached_attention(
        *(x.double() for x in fresh), *cache, cached, causal=causal, implementation="reference"
    )
    assert relative_error(o, exact) <= TOLERANCE[dtype]
    assert relative_error(lse, exact_lse) <= 1e-5
    owners = list(range(layout.num_requests)) * 2
    signals = torch.randn(len(owners), shape[0], shape[2]).to(DEVICE, dtype)
    check_cached_scores(signals, cache[0], cached, owners)


def check_cached_scores(q, cache, layout, owners):
    scores, wanted = (
        cached_block_score(x, cache, layout, signal_request=owners, implementation=name)
        for x, name in ((q, "triton"), (q.double(), "reference"))
    )
    assert relative_error(scores.mass, wanted.mass) <= 1e-5


# In pieces that divide the head, in one padded piece, and with a last piece that is not whole.
WIDE = [(1, 1, 384), (2, 1, 96), (2, 2, 160)]


@pytest.mark.parametrize("dtype", EACH_WAY)
@pytest.mark.parametrize("shape", WIDE)
def test_scores_of_wide_heads_and_their_gradients(shape, dtype):
    check_scores(EDGES, shape, dtype, masked=True, signals=5, seed=2)


@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("shape", WIDE)
def test_scores_of_wide_cached_heads(shape, bits):
    layout = BlockLayout.build(EDGES, device=DEVICE)
    q, k, _ = qkv(layout, *shape, torch.float16)
    cache = QuantizedTokens(k) if bits == 16 else quantize_tokens(k, bits)
    spans = [CachedRequest(s.instruction, s.passages, s.query.length) for s in layout.spans]
    check_cached_scores(q[:4], cache, CachedLayout.build(spans, device=DEVICE), [0, 1, 0, 0])


@pytest.mark.parametrize("dtype", EACH_WAY)
def test_the_tiles_of_a_consumer_card(dtype, monkeypatch):
    """Smaller ones, down to 16 rows and 16 keys."""
    for operation in ("block_attention", "block_score", "cached_attention"):
        module = import_module(f"kernels.{operation}.triton")
        monkeypatch.setattr(module, "shared_memory", lambda _: 101_376)
    check_attention(EDGES, (4, 2, 256), dtype, causal=True)
    check_cached(EDGES, (4, 2, 256), dtype, bits=8, causal=True)


def test_more_signal_rows_than_a_program_takes():
    layout = BlockLayout.build([RequestBlocks(2, [5, 0, 40], 1)], device=DEVICE)
    q = torch.randn(21, 8, 32, device=DEVICE, requires_grad=True)
    k = torch.randn(layout.num_tokens, 1, 32, device=DEVICE, requires_grad=True)
    results = []
    for name in ("triton", "reference"):
        scores = block_score(q, k, layout, signal_request=[0] * 21, implementation=name)
        results.append((scores.mass, *torch.autograd.grad(scores.mass[..., 0].sum(), (q, k))))
    for a, b in zip(*results, strict=True):
        assert relative_error(a, b) <= 1e-5


def test_score_reads_only_passage_keys():
    layout = BlockLayout.build(EDGES, device=DEVICE)
    q, k, _ = qkv(layout, 4, 2, 32)
    wanted = block_score(q[:3], k, layout, signal_request=[0, 1, 0], implementation="triton")
    k[layout.token_passage < 0] = torch.nan
    got = block_score(q[:3], k, layout, signal_request=[0, 1, 0], implementation="triton")
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@searched
@given(small_requests, shapes, dtypes, st.sampled_from([16, 8, 4]), st.booleans())
def test_cached_attention_and_scores(blocks, shape, dtype, bits, causal):
    check_cached(blocks, shape, dtype, bits, causal)


def test_float64_is_refused():
    layout = BlockLayout.build(EDGES, device=DEVICE)
    q, k, v = qkv(layout, 4, 2, 32, torch.float64)
    with pytest.raises(ValueError, match="float64 needs 'reference'"):
        block_attention(q, k, v, layout, causal=True, implementation="triton")
