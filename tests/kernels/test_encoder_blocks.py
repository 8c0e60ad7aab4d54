"""Blocks through a whole encoder: what plain torch computes, and the same bits in any company."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kernels import block_attention
from kernels.encoder_blocks import are_apart, encoder_blocks
from kernels.encoder_rows import EncoderLayer
from kernels.layout import BlockLayout, RequestBlocks
from kernels.packed_linear import can_pack, row_linear

WIDTH, WIDE, HEADS = 64, 512, 4
SCALE = (WIDTH // HEADS) ** -0.5
# Of three requests; more rows than a task has, blocks of one token and of none.
LENGTHS = ([17, 0, 300, 1, 64], [40] * 20, [530, 16, 15, 33])

DTYPES = [
    torch.float32,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(not can_pack(torch.bfloat16), reason="no packed products here"),
    ),
]


def layout_of(requests):
    return BlockLayout.build([RequestBlocks(0, lengths, 0) for lengths in requests])


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def made(request):
    """Two random layers as torch's modules and as they are computed, and first states."""
    torch.manual_seed(0)
    shapes = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, WIDE), (WIDE, WIDTH)]
    modules, layers = [], []
    for _ in range(2):
        linears = [nn.Linear(*shape).to(request.param) for shape in shapes]
        norms = [nn.LayerNorm(WIDTH).to(request.param) for _ in range(2)]
        inward, outward, up, down = (row_linear(x.weight, x.bias) for x in linears)
        modules.append((linears, norms))
        layers.append(EncoderLayer(inward, outward, norms[0], up, down, norms[1]))
    first = torch.randn(sum(map(sum, LENGTHS)), WIDTH).to(request.param)
    return modules, layers, first


def run(layers, first, requests):
    states = torch.full_like(first, torch.nan)
    with torch.inference_mode():
        encoder_blocks(
            lambda tokens: first[tokens],
            layers,
            layout_of(requests),
            states,
            heads=HEADS,
            scale=SCALE,
        )
    return states


def plainly(modules, states, layout, dtype):
    """The same by torch's modules in `dtype`, with the reference's attention."""
    states = states.to(dtype)
    for linears, norms in deepcopy(modules):
        inward, outward, up, down = (x.to(dtype) for x in linears)
        q, k, v = inward(states).view(len(states), 3, HEADS, -1).unbind(1)
        attended = block_attention(
            q, k, v, layout, causal=False, scale=SCALE, implementation="reference"
        )
        middle = norms[0].to(dtype)(outward(attended.flatten(1)) + states)
        states = norms[1].to(dtype)(down(F.gelu(up(middle))) + middle)
    return states.double()


def test_it_is_what_its_definition_says(made):
    """To a few times what the modules themselves lose in that dtype."""
    modules, layers, first = made
    found = run(layers, first, LENGTHS).double()
    with torch.no_grad():
        low = plainly(modules, first, layout_of(LENGTHS), first.dtype)
        exact = plainly(modules, first, layout_of(LENGTHS), torch.float64)
    own = (low - exact).norm() / exact.norm()
    assert (found - exact).norm() / exact.norm() <= 1.5 * own + 1e-6


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_block_s_bits_depend_on_no_other_block(made, threads):
    _, layers, first = made
    whole = run(layers, first, LENGTHS)
    lengths = [length for request in LENGTHS for length in request]
    blocks, states = first.split(lengths), whole.split(lengths)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for block, wanted in zip(blocks, states, strict=True):
            assert torch.equal(run(layers, block, [[len(block)]]), wanted)
        backwards = run(layers, torch.cat(blocks[::-1]), [lengths[::-1]])
        assert torch.equal(backwards, torch.cat(states[::-1]))
    finally:
        torch.set_num_threads(before)


def test_no_blocks(made):
    _, layers, first = made
    assert run(layers, first[:0], []).shape == (0, WIDTH)
    assert run(layers, first[:0], [[0, 0]]).shape == (0, WIDTH)


def test_blocks_are_apart_where_none_reads_another():
    assert are_apart(layout_of([[3, 4], [5]]))
    assert not are_apart(BlockLayout.build([RequestBlocks(2, [3], 0)]))
    assert not are_apart(BlockLayout.build([RequestBlocks(0, [3], 1)]))
