"""Linear layers in fp8: what 3 bits of mantissa allow, and the same bits in any company."""

import importlib
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kernels import Fp8Linear, Fp8Rows, fp8_linear, fp8_linears, missing_for_fp8, quantize_rows

fp8 = importlib.import_module("kernels.fp8_linear")
# fp32's own rounding, of a quotient and of a product.
SINGLE = 1 + 2.0**-20
exponents = st.integers(-30, 30)


@st.composite
def rows(draw, count, inputs):
    """Rows of very different sizes, one of them with an outlier, one of them zeros."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    sizes = torch.tensor([2.0 ** draw(exponents) for _ in range(count)])
    x = torch.randn(count, inputs, generator=generator) * sizes[:, None]
    x[draw(st.integers(0, count - 1)), 0] *= 2.0 ** draw(st.integers(0, 20))
    x[draw(st.integers(0, count - 1))] = 0
    return x.to(draw(st.sampled_from([torch.float32, torch.bfloat16])))


def lost(x):
    """float64, the most that each number of `x` may be off by.

    e4m3 has 3 bits of mantissa, so half a step is 2^-4 of a number at most, and its smallest step
    is 2^-9: half of that, in units of the row's scale, is lost where numbers are small.
    """
    x = x.double().abs()
    return torch.maximum(x / 16, x.amax(1, keepdim=True) / 448 / 1024) * SINGLE


@given(rows(5, 48))
def test_no_number_is_off_by_more_than_half_a_step(x):
    found = quantize_rows(x)
    assert found.values.dtype == torch.float8_e4m3fn
    kept = found.values.double() * found.scale.double()
    assert ((kept - x.double()).abs() <= lost(x)).all()
    assert (found.values.float().abs().amax(1) == torch.where(x.any(1), 448.0, 0.0)).all()


@settings(max_examples=60)
@given(rows(6, 160), rows(32, 160), st.booleans())
def test_a_product_is_off_by_what_its_numbers_are(x, weight, with_bias):
    bias = torch.randn(32).bfloat16() if with_bias else torch.zeros(32).bfloat16()
    found = fp8_linear(x, quantize_rows(weight), bias if with_bias else None)
    assert found.dtype == torch.bfloat16
    wide, w = x.double(), weight.double()
    exact = wide @ w.T + bias.double()
    sizes, w_sizes = wide.abs() + lost(x), w.abs() + lost(weight)
    numbers = wide.abs() @ lost(weight).T + lost(x) @ w_sizes.T
    # 160 products are added in fp32, scaled twice, and the bias is added.
    sums = (160 + 4) * 2.0**-24 * (sizes @ w_sizes.T + bias.double().abs())
    off = numbers + sums
    # And rounded to 8 bits.
    assert ((found.double() - exact).abs() <= off + 2.0**-8 * (exact.abs() + off)).all()


SHAPES = [(64, 48), (576, 192), (1536, 64)]


@pytest.fixture(scope="module")
def whole():
    """x, weight, bias and all of the rows' products in one thread, per shape."""
    generator = torch.Generator().manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    made = {}
    for inputs, outputs in SHAPES:
        x = torch.randn(400, inputs, generator=generator).bfloat16()
        weight = quantize_rows(torch.randn(outputs, inputs, generator=generator))
        bias = torch.randn(outputs, generator=generator).bfloat16()
        made[inputs, outputs] = x, weight, bias, fp8_linear(x, weight, bias)
    yield made
    torch.set_num_threads(before)


@settings(max_examples=60)
@given(
    shape=st.sampled_from(SHAPES),
    rows=st.one_of(st.integers(1, 40), st.integers(41, 400)),
    place=st.floats(0, 1),
    threads=st.sampled_from([1, 2, 3]),
)
def test_rows_places_and_threads_change_no_bit(whole, shape, rows, place, threads):
    x, weight, bias, wanted = whole[shape]
    first = round(place * (400 - rows))
    torch.set_num_threads(threads)
    assert torch.equal(
        fp8_linear(x[first : first + rows], weight, bias), wanted[first : first + rows]
    )


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_gives_nan_and_no_other_row_does(whole, bad):
    x, weight, bias, wanted = whole[64, 48]
    changed = x[:40].clone()
    changed[7, 3] = bad
    found = fp8_linear(changed, weight, bias)
    assert found[7].isnan().all()
    others = torch.arange(40) != 7
    assert torch.equal(found[others], wanted[:40][others])


def test_rows_of_zeros_of_next_to_nothing_and_of_one_outlier(whole):
    _, weight, bias, _ = whole[64, 48]
    x = torch.zeros(4, 64)
    x[1] = 1e-42
    x[2] = 1.0
    x[2, 5] = 1e6
    x[3, 5] = 1e6
    found = fp8_linear(x, weight, bias)
    assert torch.equal(found[0], bias)
    assert torch.equal(found[1], bias)
    # Ones beside a million are less than half of the smallest step.
    assert torch.equal(found[2], found[3])
    assert found[2].isfinite().all()


def test_shapes_are_those_of_a_linear_layer(whole):
    _, weight, *_ = whole[64, 48]
    for shape in ((64,), (0, 64), (1, 2, 64), (2, 0, 64)):
        assert fp8_linear(torch.randn(shape), weight).shape == (*shape[:-1], 48)


def test_torch_s_own_product_takes_what_it_is_given(whole, monkeypatch):
    """The call of a GPU, which torch emulates on a CPU: its sums are rounded in another order."""
    monkeypatch.setattr(fp8, "multiplies_fp8", lambda _: True)
    x, weight, bias, wanted = whole[576, 192]
    for count in (1, 17, 400):
        for added, expected in ((bias, wanted), (None, fp8_linear(x, weight, None, "reference"))):
            found = fp8_linear(x[:count], weight, added, "cpu")
            torch.testing.assert_close(found, expected[:count], rtol=2**-7, atol=1e-3)


def test_a_model_s_layers_keep_a_byte_of_each_number():
    class Own(nn.Linear):
        pass

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(32, 48), nn.Linear(48, 64, bias=False), nn.Linear(64, 64), Own(64, 64),
        nn.Sequential(nn.Linear(64, 10), nn.LayerNorm(10)),
    ).bfloat16()  # fmt: skip
    before = list(model)
    fp8_linears(model, but=[model[2]])
    assert [type(layer) for layer in model[:4]] == [Fp8Linear, Fp8Linear, nn.Linear, Own]
    # 10 outputs are no multiple of 16.
    assert list(model[2:]) == before[2:]
    assert type(model[4][0]) is nn.Linear
    for layer, old in zip(model[:2], before, strict=False):
        assert layer.weight.shape == old.weight.shape
        assert layer.weight.element_size() == 1
        assert layer.scale.shape == (len(old.weight), 1)
        assert not any(parameter.requires_grad for parameter in layer.parameters())
    assert model[1].bias is None
    with torch.no_grad():
        x = torch.randn(3, 32).bfloat16()
        found = model[0](x)
        weight = quantize_rows(before[0].weight)
        assert torch.equal(found, fp8_linear(x, weight, before[0].bias))
    again = Fp8Linear(nn.Linear(32, 48).bfloat16())
    again.load_state_dict(model[0].state_dict())
    assert torch.equal(again(x), found)


def test_a_gradient_is_refused():
    weight = Fp8Rows(*quantize_rows(torch.randn(16, 16)))
    x = torch.randn(2, 16, requires_grad=True)
    with pytest.raises(ValueError, match="no gradient passes through a layer in fp8"):
        fp8_linear(x, weight)


@pytest.mark.parametrize(
    ("capability", "missing"),
    [((8, 0), "8.9 or more .*, and A chip has 8.0"), ((8, 9), None), ((9, 0), None)],
)
def test_an_older_chip_is_told_what_it_lacks(monkeypatch, capability, missing):
    monkeypatch.setattr(fp8, "_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A chip")
    found = missing_for_fp8(torch.device("cuda"))
    if missing is None:
        assert found is None
    else:
        assert found is not None
        assert re.search(missing, found)


def test_other_devices_are_named():
    assert missing_for_fp8(torch.device("cpu")) is None
    assert "not on mps" in missing_for_fp8(torch.device("mps"))
