"""Block attention on the CPU and its reference: meaning, accuracy, gradients, and stable bits."""

import pytest
import torch
from allocation import peak_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import MIXED, block_lengths, pack, qkv, relative_error, requests

from kernels import BlockLayout, RequestBlocks, block_attention, chosen_implementation

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
heads = st.sampled_from([(1, 1), (4, 4), (6, 2), (8, 1), (14, 2)])
head_sizes = st.sampled_from([32, 64, 80, 128, 256])


def mask_by_hand(layout: BlockLayout, causal: bool) -> torch.Tensor:
    """The whole T x T mask, token by token, from the words of the module's docstring."""
    mask = torch.zeros(layout.num_tokens, layout.num_tokens, dtype=torch.bool)
    for spans in layout.spans:
        for block in (spans.instruction, *spans.passages):
            for row in range(*block):
                mask[row, slice(*spans.instruction)] = True
                mask[row, slice(*block)] = True
        for row in range(*spans.query):
            mask[row, spans.instruction.start : spans.query.end] = True
        if causal:
            for block in (spans.instruction, *spans.passages, spans.query):
                for row in range(*block):
                    mask[row, row + 1 : block.end] = False
    return mask


@pytest.mark.parametrize("causal", [False, True])
def test_the_reference_is_masked_attention(causal):
    layout = BlockLayout.build(MIXED)
    q, k, v = qkv(layout, 4, 2, 32, torch.float64)
    o, lse = block_attention(
        q, k, v, layout, causal=causal, return_lse=True, implementation="reference"
    )
    mask = mask_by_hand(layout, causal)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(0, 1) for x in (q, k, v)), attn_mask=mask, enable_gqa=True
    )
    torch.testing.assert_close(o.transpose(0, 1), wanted)
    logits = torch.einsum("ihd,jhd->hij", q, k.repeat_interleave(2, 1)) * 32**-0.5
    torch.testing.assert_close(lse, logits.masked_fill(~mask, -torch.inf).logsumexp(-1))


@settings(deadline=None, max_examples=30)
@given(requests, heads, head_sizes, st.sampled_from(list(TOLERANCE)), st.booleans(), st.booleans())
def test_matches_the_float64_reference(blocks, head_counts, head_size, dtype, causal, head_major):
    layout = BlockLayout.build(blocks)
    q, k, v = qkv(layout, *head_counts, head_size, dtype)
    if head_major:
        q, k, v = (x.transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v))
    o, lse = block_attention(q, k, v, layout, causal=causal, scale=0.2, return_lse=True)
    exact, exact_lse = block_attention(
        *(x.double() for x in (q, k, v)),
        layout,
        causal=causal,
        scale=0.2,
        return_lse=True,
        implementation="reference",
    )
    assert o.dtype == dtype
    assert lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert relative_error(o, exact) <= TOLERANCE[dtype]
    assert relative_error(lse, exact_lse) <= 1e-5


@settings(deadline=None, max_examples=15)
@given(requests, heads, st.sampled_from([32, 80]), st.sampled_from(list(TOLERANCE)), st.booleans())
def test_gradients_match_the_float64_reference(blocks, head_counts, head_size, dtype, causal):
    layout = BlockLayout.build(blocks)
    inputs = [x.requires_grad_() for x in qkv(layout, *head_counts, head_size, dtype)]
    o = block_attention(*inputs, layout, causal=causal)
    upstream = torch.randn(o.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    grads = torch.autograd.grad(o, inputs, upstream)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    exact = block_attention(*wide, layout, causal=causal, implementation="reference")
    wanted = torch.autograd.grad(exact, wide, upstream.double()) if layout.num_tokens else wide
    for got, want in zip(grads, wanted, strict=True):
        assert got.dtype == dtype
        # A softmax over one key has no gradient: measure against the upstream's size there.
        floor = upstream.double().norm().item()
        assert (got.double() - want).norm().item() <= TOLERANCE[dtype] * max(
            want.norm().item(), floor
        )


@pytest.mark.parametrize("causal", [False, True])
def test_long_blocks_are_cut_without_a_seam(causal):
    layout = BlockLayout.build([RequestBlocks(40, [1100, 700, 3], 150)])
    q, k, v = qkv(layout, 2, 1, 32)
    o = block_attention(q, k, v, layout, causal=causal)
    wanted = block_attention(
        q.double(), k.double(), v.double(), layout, causal=causal, implementation="reference"
    )
    assert relative_error(o, wanted) <= 1e-5


# Bits that stay put: the promise that scores don't depend on company or order.

dtypes = st.sampled_from([torch.float32, torch.bfloat16])


@settings(deadline=None, max_examples=20)
@given(requests, heads, head_sizes, dtypes, st.booleans())
def test_a_request_alone_and_in_a_batch_has_the_same_bits(
    blocks, head_counts, head_size, dtype, causal
):
    layout = BlockLayout.build(blocks)
    q, k, v = qkv(layout, *head_counts, head_size, dtype)
    o, lse = block_attention(q, k, v, layout, causal=causal, return_lse=True)
    for request, spans in zip(blocks, layout.spans, strict=True):
        tokens = slice(spans.instruction.start, spans.query.end)
        alone, alone_lse = block_attention(
            q[tokens].clone(),
            k[tokens].clone(),
            v[tokens].clone(),
            BlockLayout.build([request]),
            causal=causal,
            return_lse=True,
        )
        assert torch.equal(alone, o[tokens])
        assert torch.equal(alone_lse, lse[:, tokens])


@settings(deadline=None, max_examples=20)
@given(
    block_lengths,
    st.lists(block_lengths, min_size=1, max_size=40),
    st.integers(0, 80),
    heads,
    dtypes,
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_the_order_of_passages_changes_no_bit(
    instruction, passages, query, head_counts, dtype, causal, random
):
    order = list(range(len(passages)))
    random.shuffle(order)
    layout = BlockLayout.build([RequestBlocks(instruction, passages, query)])
    shuffled = BlockLayout.build([RequestBlocks(instruction, [passages[i] for i in order], query)])
    inputs = qkv(layout, *head_counts, 32, dtype)
    spans = layout.spans[0]
    blocks = [spans.instruction, *(spans.passages[i] for i in order), spans.query]
    moved = pack([[x[slice(*span)] for x in inputs] for span in blocks])
    o, lse = block_attention(*inputs, layout, causal=causal, return_lse=True)
    o_moved, lse_moved = block_attention(*moved, shuffled, causal=causal, return_lse=True)
    new = shuffled.spans[0]
    for old_span, new_span in zip(blocks, (new.instruction, *new.passages, new.query), strict=True):
        assert torch.equal(o[slice(*old_span)], o_moved[slice(*new_span)])
        assert torch.equal(lse[:, slice(*old_span)], lse_moved[:, slice(*new_span)])


@pytest.mark.parametrize("causal", [False, True])
def test_many_passages_keep_their_bits_among_few(causal):
    """Chunks, head groups and thread splits all change between 3 passages and 300."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 200, (300,), generator=generator).tolist()
    many = BlockLayout.build([RequestBlocks(24, lengths, 20)])
    q, k, v = qkv(many, 12, 12, 32)
    o = block_attention(q, k, v, many, causal=causal)
    spans = many.spans[0]
    picked = [spans.instruction, *(spans.passages[i] for i in (7, 150, 299))]
    few = BlockLayout.build([RequestBlocks(24, [s.length for s in picked[1:]], 0)])
    inputs = pack([[x[slice(*span)] for x in (q, k, v)] for span in picked])
    assert torch.equal(
        block_attention(*inputs, few, causal=causal), torch.cat([o[slice(*s)] for s in picked])
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_no_bit(threads):
    layout = BlockLayout.build(MIXED)
    q, k, v = qkv(layout, 1, 1, 64)
    wanted = block_attention(q, k, v, layout, causal=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(block_attention(q, k, v, layout, causal=True), wanted)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("causal", [False, True])
def test_nothing_outside_a_row_s_mask_is_read(causal):
    """NaN in every key and value that some block may not see must not reach that block."""
    layout = BlockLayout.build(MIXED)
    q, k, v = qkv(layout, 2, 2, 32)
    wanted, wanted_lse = block_attention(q, k, v, layout, causal=causal, return_lse=True)
    for spans in layout.spans:
        for block in (spans.instruction, *spans.passages, spans.query):
            poisoned = [torch.full_like(x, torch.nan) for x in (q, k, v)]
            seen = [spans.instruction, block]
            if block == spans.query:
                seen = [type(block)(spans.instruction.start, spans.query.end)]
            for clean, bad in zip((q, k, v), poisoned, strict=True):
                for span in seen:
                    bad[slice(*span)] = clean[slice(*span)]
            o, lse = block_attention(*poisoned, layout, causal=causal, return_lse=True)
            assert torch.equal(o[slice(*block)], wanted[slice(*block)])
            assert torch.equal(lse[:, slice(*block)], wanted_lse[:, slice(*block)])


def test_strided_views_and_unused_dimensions_are_read_in_place():
    layout = BlockLayout.build(MIXED)
    wide = torch.full((layout.num_tokens, 3, 4, 48), torch.nan)
    wide[..., :32] = torch.randn(layout.num_tokens, 3, 4, 32)
    q, k, v = wide[..., :32].unbind(1)
    wanted = block_attention(q.clone(), k.clone(), v.clone(), layout, causal=True)
    assert torch.equal(block_attention(q, k, v, layout, causal=True), wanted)


def test_the_same_call_twice_gives_the_same_bits_and_every_byte_is_written(monkeypatch):
    """Fresh memory is filled with NaN, so a byte that nobody wrote would show."""
    layout = BlockLayout.build(MIXED)
    q, k, v = qkv(layout, 4, 2, 32)
    wanted = block_attention(q, k, v, layout, causal=False, return_lse=True)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **kw: empty(*a, **kw).fill_(torch.nan))
    again = block_attention(q, k, v, layout, causal=False, return_lse=True)
    assert all(torch.equal(a, b) for a, b in zip(again, wanted, strict=True))
    assert not any(x.isnan().any() for x in again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": (9, 4, 32)}, "q has 9 tokens and the layout 10"),
        ({"k": (10, 3, 32), "v": (10, 3, 32)}, "key heads divide the query heads"),
        ({"v": (10, 2, 16)}, "k and v \\[T,Hkv,D\\]"),
        ({"q": (10, 4, 64)}, "agree in tokens and head size"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    shapes = {"q": (10, 4, 32), "k": (10, 2, 32), "v": (10, 2, 32)} | change
    if shapes["q"][0] != 10:
        shapes |= {"k": (9, 2, 32), "v": (9, 2, 32)}
    layout = BlockLayout.build([RequestBlocks(2, [5], 3)])
    with pytest.raises(ValueError, match=message):
        block_attention(*(torch.zeros(shapes[n]) for n in "qkv"), layout, causal=False)


def test_dtypes_that_do_not_fit_are_refused():
    layout = BlockLayout.build([RequestBlocks(2, [5], 3)])
    q, k, v = qkv(layout, 2, 2, 32)
    with pytest.raises(ValueError, match="share a float dtype"):
        block_attention(q.half(), k, v, layout, causal=False)


def test_the_choice_is_reported_and_can_be_forced():
    assert chosen_implementation("cpu") == "cpu"
    assert chosen_implementation("cpu", "reference") == "reference"
    with pytest.raises(ValueError, match="unknown implementation 'fast'"):
        chosen_implementation("cpu", "fast")
    with pytest.raises(ValueError, match="'cpu' was asked for tensors on cuda"):
        chosen_implementation("cuda", "cpu")


def test_triton_on_cpu_tensors_needs_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="TRITON_INTERPRET=1"):
        chosen_implementation("cpu", "triton")


def test_peak_memory_is_that_of_inputs_and_outputs():
    """500 passages: what is allocated beyond them stays below a tenth of them."""
    lengths = [40 + i * 37 % 121 for i in range(500)]
    layout = BlockLayout.build([RequestBlocks(24, lengths, 20)])
    inputs = [torch.randn(12, layout.num_tokens, 32).transpose(0, 1) for _ in range(3)]
    found = []
    peak = peak_bytes(
        lambda: found.extend(block_attention(*inputs, layout, causal=False, return_lse=True))
    )
    outputs = sum(x.nbytes for x in found)
    assert peak >= outputs  # it counts
    assert peak - outputs < 0.1 * (outputs + sum(x.nbytes for x in inputs))
