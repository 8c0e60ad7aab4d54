"""A layer's rows in tiles: what plain torch computes, and the same bits in any company."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kernels.encoder_rows import EncoderLayer, encoder_rows, project
from kernels.packed_linear import TILE_ROWS, PackedLinear, can_pack

WIDTH, WIDE = 96, 1536
DTYPE = torch.bfloat16
ROWS = 2 * TILE_ROWS + 40

pytestmark = pytest.mark.skipif(not can_pack(DTYPE), reason="no packed products on this CPU")


@pytest.fixture(params=["as this CPU adds", "all products of one number of rows"])
def made(request, monkeypatch):
    """A random layer as torch's modules and as packed, and inputs."""
    if request.param.startswith("all"):
        monkeypatch.setattr("kernels.packed_linear.adds_alike", lambda _: False)
    torch.manual_seed(0)
    shapes = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, WIDE), (WIDE, WIDTH)]
    linears = [nn.Linear(*shape).to(DTYPE) for shape in shapes]
    norms = [nn.LayerNorm(WIDTH).to(DTYPE) for _ in range(2)]
    for norm in norms:
        nn.init.normal_(norm.weight, 1.0, 0.2)
    inward, outward, up, down = (PackedLinear(x.weight, x.bias) for x in linears)
    layer = EncoderLayer(inward, outward, norms[0], up, down, norms[1])
    attended, states = (torch.randn(ROWS, WIDTH).to(DTYPE) for _ in range(2))
    with torch.inference_mode():
        yield linears, norms, layer, attended, states


def run(layer, attended, states):
    """The states after `layer`, and the projections of them."""
    states, qkv = states.clone(), states.new_empty(len(states), 3 * WIDTH)
    encoder_rows(attended, states, layer, layer.inward, qkv)
    return states, qkv


def test_a_layer_is_what_its_definition_says(made):
    """To a few times what the modules themselves lose in that dtype."""
    linears, norms, layer, attended, states = made
    found = run(layer, attended, states)

    def wanted(of):
        inward, outward, up, down = (x.to(of) for x in linears)
        first, second = (x.to(of) for x in norms)
        a = first(outward(attended.to(of)) + states.to(of))
        after = second(down(F.gelu(up(a))) + a)
        return after.double(), inward(after).double()

    plain = wanted(DTYPE)
    for got, low, exact in zip(found, plain, wanted(torch.float64), strict=True):
        own = (low - exact).norm() / exact.norm()
        assert (got.double() - exact).norm() / exact.norm() <= 1.5 * own + 1e-6


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_s_bits_depend_on_no_other_row(made, threads):
    *_, layer, attended, states = made
    whole = run(layer, attended, states)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for first in (0, 13, 250):
            for rows in (1, 15, 16, 17, 31, 60, 129, 255, 256, 257, 300):
                part = slice(first, first + rows)
                for got, all_rows in zip(
                    run(layer, attended[part], states[part]), whole, strict=True
                ):
                    assert torch.equal(got, all_rows[part]), (first, rows)
        backwards = run(layer, attended.flip(0), states.flip(0))
        for got, all_rows in zip(backwards, whole, strict=True):
            assert torch.equal(got.flip(0), all_rows)
    finally:
        torch.set_num_threads(before)


def test_project_is_the_product(made):
    linears, _, layer, _, states = made
    found = project(states, layer.inward, 3 * WIDTH)
    exact = F.linear(states.double(), linears[0].weight.double(), linears[0].bias.double())
    assert (found - exact).norm() <= 4e-3 * exact.norm()


def test_no_rows(made):
    *_, layer, attended, states = made
    after, qkv = run(layer, attended[:0], states[:0])
    assert after.shape == (0, WIDTH)
    assert qkv.shape == (0, 3 * WIDTH)
