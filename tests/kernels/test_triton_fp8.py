"""Rows in fp8 by Triton: on a GPU, or in Triton's interpreter (`test_triton_interpreter`)."""

import pytest
import torch
from triton_cases import GPU, needs_triton

from kernels import quantize_rows

pytestmark = needs_triton


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("K", [16, 48, 5000])
def test_rows_have_the_bits_of_their_definition(K, dtype):
    generator = torch.Generator().manual_seed(K)
    sizes = torch.tensor([1, 1e-3, 0, 1e-42, 1e4, 1, 1])
    wide = (torch.randn(7, 2 * K, generator=generator) * sizes[:, None]).to(dtype)
    wide[5, 3] = 1000.0
    x = wide[:, :K].to("cuda" if GPU else "cpu")
    found, wanted = quantize_rows(x, "triton"), quantize_rows(x, "reference")
    assert torch.equal(found.scale, wanted.scale)
    a, b = (rows.values.view(torch.uint8) for rows in (found, wanted))
    same = a == b
    if GPU and torch.cuda.get_device_capability() >= (9, 0):
        assert same.all()
    else:
        # The interpreter rounds ties up, forgets the carry into a power of two and cuts off what
        # a number without a leading one can't hold; capability 8.9 rounds twice.
        assert same.float().mean() > 0.95
    assert same[2].all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_is_nan_and_no_other_row_is(bad):
    x = torch.randn(3, 64, device="cuda" if GPU else "cpu").bfloat16()
    x[1, 5] = bad
    for implementation in ("triton", "reference"):
        scale = quantize_rows(x, implementation).scale
        assert scale.isnan().flatten().tolist() == [False, True, False]


def test_no_rows():
    rows = quantize_rows(torch.empty(0, 32, device="cuda" if GPU else "cpu"), "triton")
    assert rows.values.shape == (0, 32)
