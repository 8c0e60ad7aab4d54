"""Rows of linear layers have the same bits in any company."""

import pytest
import torch
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
