"""Rows of linear layers have the same bits in any company."""

import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from kernels import SteadyLinear, linear, steady_linears

# 1536 inputs: a product that torch adds up in parts when it has few rows and two threads.
SHAPES = [(48, 24), (384, 96), (1536, 64), (4096, 32)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_a_rows_bits_depend_on_no_other_row(threads, dtype, inputs, outputs):
    torch.manual_seed(inputs)
    x = torch.randn(700, inputs, dtype=dtype)
    weight, bias = torch.randn(outputs, inputs, dtype=dtype) / inputs**0.5, torch.randn(outputs)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = linear(x, weight, bias.to(dtype))
        for first in (0, 13, 400):
            for rows in (1, 2, 15, 16, 17, 33, 60, 129, 257):
                part = linear(x[first : first + rows], weight, bias.to(dtype))
                assert torch.equal(part, whole[first : first + rows]), (first, rows)
    finally:
        torch.set_num_threads(before)
    wanted = F.linear(x.double(), weight.double(), bias.to(dtype).double())
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]
    torch.testing.assert_close(whole.double(), wanted, rtol=tolerance, atol=tolerance)


# Layers of `mini` and of `smollm2` in bf16: sums that are one product of all rows where the CPU has
# a matrix unit, and longer ones.
LAYERS = [(384, 384), (384, 1536), (1536, 384), (576, 1536)]
MOST_ROWS = 1400


@pytest.fixture(scope="module")
def in_one_thread():
    """x, weight, bias and all of the rows' products, per layer."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    made = {}
    for inputs, outputs in LAYERS:
        x = torch.randn(MOST_ROWS, inputs).bfloat16()
        weight = (torch.randn(outputs, inputs) / inputs**0.5).bfloat16()
        bias = torch.randn(outputs).bfloat16()
        made[inputs, outputs] = x, weight, bias, linear(x, weight, bias)
    yield made
    torch.set_num_threads(before)


@settings(deadline=None, max_examples=150)
@given(
    layer=st.sampled_from(LAYERS),
    rows=st.one_of(st.integers(1, 64), st.integers(65, MOST_ROWS)),
    place=st.floats(0, 1),
    threads=st.sampled_from([1, 2, 3]),
)
def test_rows_places_and_threads_change_no_bit(in_one_thread, layer, rows, place, threads):
    x, weight, bias, wanted = in_one_thread[layer]
    first = round(place * (MOST_ROWS - rows))
    torch.set_num_threads(threads)
    part = linear(x[first : first + rows], weight, bias)
    assert torch.equal(part, wanted[first : first + rows])


def test_a_row_has_the_same_bits_anywhere_in_a_tile(monkeypatch):
    """Every place of several tiles, for sums that are not one product of all rows."""
    monkeypatch.setattr(importlib.import_module("kernels.linear"), "has_amx", lambda: False)
    for inputs in (64, 1536):
        x = torch.randn(1, inputs).bfloat16().expand(600, -1)
        weight = torch.randn(64, inputs).bfloat16()
        for bias in (None, torch.randn(64).bfloat16()):
            rows = linear(x, weight, bias)
            assert torch.equal(rows, rows[:1].expand(600, -1))
            exact = F.linear(
                x[:1].double(), weight.double(), None if bias is None else bias.double()
            )
            assert (rows[:1] - exact).norm() <= 1e-2 * exact.norm()


def test_shapes_are_those_of_torch():
    layer = nn.Linear(8, 3)
    for shape in ((8,), (0, 8), (1, 2, 8), (40, 8)):
        x = torch.randn(shape)
        with torch.inference_mode():
            torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x))
            torch.testing.assert_close(linear(x, layer.weight), F.linear(x, layer.weight))


def test_gradients_are_those_of_torch():
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1, bias=False))
    x = torch.randn(20, 8)
    model(x).sum().backward()
    wanted = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    steady_linears(model)
    assert [type(layer) for layer in model] == [SteadyLinear, nn.ReLU, SteadyLinear]
    model(x).sum().backward()
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_names_and_subclasses_stay():
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(2, 2), Own(2, 2))
    names = list(model.state_dict())
    steady_linears(model)
    assert list(model.state_dict()) == names
    assert type(model[1]) is Own
