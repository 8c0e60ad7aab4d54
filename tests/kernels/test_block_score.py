"""Block scores on the CPU and their reference: meaning, accuracy, gradients, and stable bits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import MIXED, block_lengths, qkv, relative_error, requests

from kernels import BlockLayout, RequestBlocks, block_attention, block_score, token_mass

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-5, torch.bfloat16: 1e-5}
GRADIENT_TOLERANCE = TOLERANCE | {torch.float16: 2e-3, torch.bfloat16: 1e-2}
heads = st.sampled_from([(1, 1), (4, 4), (6, 2), (8, 1)])


def signals(layout: BlockLayout, heads: int, head_size: int, dtype: torch.dtype, seed: int):
    """Two signal tokens a request and one more for the first, in no order; q [S,Hq,D]."""
    owners = [*range(layout.num_requests), *reversed(range(layout.num_requests)), 0]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(owners), heads, head_size, generator=generator).to(dtype), owners


def test_mass_worked_by_hand():
    """Two passages, of keys 0 and ln 3 | ln 4: masses (1 + 3) / 8 and 4 / 8."""
    layout = BlockLayout.build([RequestBlocks(1, [2, 1], 1)])
    k = torch.tensor([99.0, 0.0, math.log(3), math.log(4), 99.0])[:, None, None]
    scores = block_score(torch.ones(1, 1, 1), k, layout, signal_request=[0], scale=1.0)
    torch.testing.assert_close(scores.mass, torch.tensor([[[0.5, 0.5]]]))
    torch.testing.assert_close(scores.log_sum_exp, torch.full((1, 1, 2), math.log(4)))


def test_mass_is_the_attention_a_passage_receives():
    """With one-hot values, attention's output counts the probability each passage got."""
    layout = BlockLayout.build([RequestBlocks(0, [7, 1, 20, 64], 1)])
    q, k, _ = qkv(layout, 2, 1, 32)
    marks = torch.zeros_like(k)
    marks[torch.arange(92), 0, layout.token_passage[:92]] = 1.0
    marks[92, 0, 31] = 1.0
    received = block_attention(q, k, marks, layout, causal=False)[92]
    passages = received[:, :4] / (1 - received[:, 31:])
    mass = block_score(q[92:], k, layout, signal_request=[0]).mass[:, 0]
    torch.testing.assert_close(mass, passages)


@settings(deadline=None, max_examples=30)
@given(
    requests,
    heads,
    st.sampled_from([32, 80, 256]),
    st.sampled_from(list(TOLERANCE)),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_scores_and_gradients_match_the_float64_reference(
    blocks, head_counts, head_size, dtype, masked, seed
):
    layout = BlockLayout.build(blocks)
    q, owners = signals(layout, head_counts[0], head_size, dtype, seed)
    _, k, _ = qkv(layout, *head_counts, head_size, dtype, seed)
    inputs = [q.requires_grad_(), k.requires_grad_()]
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(layout.num_tokens, generator=generator) < 0.5 if masked else None
    wide = [x.detach().double().requires_grad_() for x in inputs]
    got = block_score(*inputs, layout, signal_request=owners, scale=0.2, key_mask=mask)
    wanted = block_score(
        *wide, layout, signal_request=owners, scale=0.2, key_mask=mask, implementation="reference"
    )
    finite = wanted.log_sum_exp > -math.inf
    assert torch.equal(got.log_sum_exp > -math.inf, finite)
    assert not got.mass[~finite].any()
    assert relative_error(got.mass, wanted.mass) <= TOLERANCE[dtype]
    assert relative_error(got.log_sum_exp[finite], wanted.log_sum_exp[finite]) <= TOLERANCE[dtype]
    if finite.any():
        weights = torch.randn(2, *finite.shape, generator=generator)
        grads = [
            torch.autograd.grad(
                (x.mass * weights[0]).sum() + (x.log_sum_exp * weights[1])[finite].sum(), of
            )
            for x, of in ((got, inputs), (wanted, wide))
        ]
        for a, b in zip(*grads, strict=True):
            assert relative_error(a, b) <= GRADIENT_TOLERANCE[dtype]


@settings(deadline=None, max_examples=20)
@given(
    block_lengths,
    st.lists(block_lengths, min_size=1, max_size=40),
    st.integers(1, 4),
    heads,
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.randoms(use_true_random=False),
)
def test_neither_order_nor_company_changes_a_bit(
    other, passages, count, head_counts, dtype, random
):
    layout = BlockLayout.build([RequestBlocks(3, passages, 2)])
    order = list(range(len(passages)))
    random.shuffle(order)
    blocks = [RequestBlocks(0, [other, 17], 1), RequestBlocks(5, [passages[i] for i in order], 0)]
    company = BlockLayout.build(blocks)
    _, k, _ = qkv(layout, *head_counts, 64, dtype)
    _, k_company, _ = qkv(company, *head_counts, 64, dtype, seed=1)
    for place, passage in enumerate(order):
        source, target = layout.spans[0].passages[passage], company.spans[1].passages[place]
        k_company[slice(*target)] = k[slice(*source)]
    q = torch.randn(count, head_counts[0], 64).to(dtype)
    scores = block_score(q, k, layout, signal_request=[0] * count)
    extra = torch.randn(1, head_counts[0], 64).to(dtype)
    moved = block_score(torch.cat([extra, q]), k_company, company, signal_request=[0] + [1] * count)
    for got, wanted in zip(moved, scores, strict=True):
        assert torch.equal(got[:, 1:, : len(passages)], wanted[:, :, order])


def test_only_the_request_s_passages_are_read():
    layout = BlockLayout.build(MIXED)
    q, owners = signals(layout, 4, 32, torch.float32, 0)
    _, k, _ = qkv(layout, 4, 2, 32)
    wanted = block_score(q, k, layout, signal_request=owners)
    k[layout.token_passage < 0] = torch.nan
    got = block_score(q, k, layout, signal_request=owners)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_masked_keys_leave_no_trace_and_all_masked_scores_nothing():
    layout = BlockLayout.build([RequestBlocks(2, [4, 3], 1)])
    q, k = torch.randn(1, 2, 32), torch.randn(10, 2, 32)
    mask = torch.ones(10, dtype=torch.bool)
    mask[3:5] = False
    scores = block_score(q, k, layout, signal_request=[0], key_mask=mask)
    shorter = BlockLayout.build([RequestBlocks(2, [2, 3], 1)])
    wanted = block_score(q, k[[0, 1, 2, 5, 6, 7, 8, 9]], shorter, signal_request=[0])
    torch.testing.assert_close(scores.mass, wanted.mass)
    k.requires_grad_()
    nothing = block_score(q, k, layout, signal_request=[0], key_mask=torch.zeros_like(mask))
    assert not nothing.mass.any()
    nothing.mass.sum().backward()
    assert not k.grad.any()


@settings(deadline=None, max_examples=20)
@given(requests, st.booleans())
def test_token_mass_adds_up_to_the_mean_block_mass(blocks, masked):
    layout = BlockLayout.build(blocks)
    q, owners = signals(layout, 4, 32, torch.float32, 0)
    _, k, _ = qkv(layout, 4, 2, 32)
    mask = torch.rand(layout.num_tokens) < 0.7 if masked else None
    tokens = token_mass(q, k, layout, signal_request=owners, key_mask=mask)
    scores = block_score(q, k, layout, signal_request=owners, key_mask=mask)
    assert tokens.shape == (4, layout.num_tokens)
    for request, spans in enumerate(layout.spans):
        mean = scores.mass[:, [owner == request for owner in owners]].mean(1)
        for place, span in enumerate(spans.passages):
            torch.testing.assert_close(tokens[:, slice(*span)].sum(1), mean[:, place])
    assert not tokens[:, layout.token_passage < 0].any()


def test_arguments_that_do_not_fit_are_refused():
    layout = BlockLayout.build([RequestBlocks(2, [5], 3)])
    q, k = torch.zeros(2, 4, 32), torch.zeros(10, 2, 32)
    with pytest.raises(ValueError, match="names requests 0 to 1; the layout has 1"):
        block_score(q, k, layout, signal_request=[0, 1])
    with pytest.raises(ValueError, match="2 signal tokens and 1 entries"):
        block_score(q, k, layout, signal_request=[0])
    with pytest.raises(ValueError, match="k has 9 tokens and the layout 10"):
        block_score(q, k[:9], layout, signal_request=[0, 0])
    with pytest.raises(ValueError, match="key_mask must be bool \\[10\\]"):
        block_score(q, k, layout, signal_request=[0, 0], key_mask=torch.ones(10))
    with pytest.raises(ValueError, match="with Hkv dividing Hq"):
        block_score(q, torch.zeros(10, 3, 32), layout, signal_request=[0, 0])
