"""The row-wise Triton kernels against the float64 reference: on a GPU, or in the interpreter.

As `test_triton`, and run beside it.
"""

import pytest
import torch
from elementwise_cases import OPERATIONS, angles
from kernel_cases import relative_error
from triton_cases import DEVICE, GPU, TOLERANCE, needs_triton

from kernels.elementwise import rotary

pytestmark = needs_triton
# Several rows a program and one, whole pieces and torn ones, more than a program takes.
SHAPES = [(1, 37, 40), (2, 1), (3, 2049), (2, 3, 4096)]
if GPU:
    SHAPES += [(1001, 4096), (5000, 384), (777, 14336), (3, 32768)]


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch):
    """A number that no kernel wrote would show as NaN."""
    from kernels.elementwise import triton

    empty = triton._empty
    monkeypatch.setattr(triton, "_empty", lambda x: empty(x).fill_(torch.nan))


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("name", OPERATIONS)
def test_rows_of_every_width(name, dtype):
    operation = OPERATIONS[name]
    for shape in SHAPES:
        inputs = operation.inputs(shape, dtype, DEVICE)
        found = operation(inputs, "triton")
        wanted = operation([x.double() for x in inputs], "reference")
        for got, want in zip(found, wanted, strict=True):
            assert got.dtype == dtype
            assert got.shape == shape
            assert relative_error(got, want) <= TOLERANCE[dtype], shape


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_row_s_bits_depend_on_no_other_row(name):
    operation = OPERATIONS[name]
    for D in (40, 384, 2049):
        inputs = operation.inputs((35, D), torch.float32, DEVICE)
        of_rows, shared = inputs[: operation.rows], inputs[operation.rows :]
        whole = operation(inputs, "triton")
        for part in (slice(0, 1), slice(3, 20), slice(34, 35)):
            some = operation([*(x[part] for x in of_rows), *shared], "triton")
            for got, want in zip(some, whole, strict=True):
                assert torch.equal(got, want[part])


@pytest.mark.parametrize("name", ["swiglu", "bias_gelu"])
def test_rows_that_lie_apart_are_read_in_place(name):
    operation = OPERATIONS[name]
    inputs = operation.inputs((5, 96), torch.float32, DEVICE)
    (wanted,) = operation([x[..., :40].contiguous() for x in inputs], "triton")
    for x in inputs:
        x[..., 40:] = torch.nan
    (found,) = operation([x[..., :40] for x in inputs], "triton")
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_rows(name):
    (found, *_) = OPERATIONS[name](OPERATIONS[name].inputs((0, 8), torch.float32, DEVICE), "triton")
    assert found.shape == (0, 8)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
# Heads of a power of two and of none, fewer and more than a program takes at once.
@pytest.mark.parametrize("shape", [(4, 2, 16), (3, 1, 20), (40, 1, 256), (5, 5, 2)])
def test_heads_are_turned(shape, dtype):
    """As transformers hands them over, [1,H,T,D] seen from the tokens, and token by token."""
    Hq, Hkv, D = shape
    generator = torch.Generator().manual_seed(D)
    q, k = (torch.randn(H, 6, D, generator=generator).to(DEVICE, dtype) for H in (Hq, Hkv))
    q, k = q.transpose(0, 1), k.transpose(0, 1)
    cos, sin = angles(6, D, dtype, DEVICE)
    found = rotary(q, k, cos, sin, implementation="triton")
    wanted = rotary(*(x.double() for x in (q, k, cos, sin)), implementation="reference")
    for got, want in zip(found, wanted, strict=True):
        assert got.is_contiguous()
        assert relative_error(got, want) <= TOLERANCE[dtype]
    alone = rotary(q[2:3].clone(), k[2:3].clone(), cos[2:3], sin[2:3], implementation="triton")
    for one, all_tokens in zip(alone, found, strict=True):
        assert torch.equal(one[0], all_tokens[2])


def test_no_tokens():
    empty = torch.ones(0, 2, 8, device=DEVICE)
    turns = angles(0, 8, torch.float32, DEVICE)
    for turned in rotary(empty, empty, *turns, implementation="triton"):
        assert turned.shape == (0, 2, 8)
