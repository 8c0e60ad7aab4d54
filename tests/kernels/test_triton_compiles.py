"""The Triton kernels compile for real GPUs, without one: to machine code, within shared memory."""

import importlib.util
import os

import pytest
import torch

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is missing"),
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
    ),
]
# Bytes of shared memory that a block may use, by compute capability.
SHARED = {80: 166_912, 90: 232_448}
FLOATS = {"o", "q", "k", "v", "grad_o", "grad_q", "grad_k", "grad_v"}
INTEGERS = {"table", "merges", "pieces"}
NAMES = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}


def compiled(kernel, constants, dtype, capability, config, bits=16, fp32=()):
    from triton import compile as build
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    stored = {16: NAMES[dtype], 8: "*i8", 4: "*u8"}[bits]
    types, attributes = {}, {}
    for index, name in enumerate(kernel.arg_names):
        if name in constants:
            types[name] = "constexpr"
        elif name in ("k", "v") and bits < 16:
            types[name] = stored
        elif name in FLOATS - set(fp32):
            types[name] = NAMES[dtype]
        elif name in INTEGERS or name == "order":
            types[name] = "*i64" if name == "order" else "*i32"
        elif name == "key_mask":
            types[name] = "*u8"
        elif name == "scale":
            types[name] = "fp32"
        elif name.startswith("stride") or name in ("T", "S", "Nmax", "Hkv"):
            types[name] = "i32"
        else:
            types[name] = "*fp32"
        if types[name].startswith("*") or name.startswith("stride"):
            attributes[(index,)] = [["tt.divisibility", 16]]
    binary = build(
        ASTSource(kernel, types, constants, attributes),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": config[2], "num_stages": config[3]},
    )
    assert binary.asm["cubin"]
    assert binary.metadata.shared <= SHARED[capability]
    return binary.asm["ptx"]


def shape(D, config, **more):
    G = 4
    return {"G": G, "D": D, "BLOCK_M": config[0], "BLOCK_D": D, "UPCAST": False, **more}


def test_forward_uses_hopper_s_matrix_instruction():
    from kernels.block_attention.triton import forward_config
    from kernels.block_attention.triton_forward import forward_kernel

    config = forward_config(128, torch.bfloat16)
    constants = shape(128, config, BLOCK_N=config[1], CAUSAL=True)
    assert "wgmma.mma_async" in compiled(forward_kernel, constants, torch.bfloat16, 90, config)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("D", [32, 64, 128, 256])
def test_block_attention_at_every_configuration(D, dtype, capability):
    from kernels.block_attention import triton_backward
    from kernels.block_attention.triton import backward_config, forward_config
    from kernels.block_attention.triton_forward import forward_kernel

    config = forward_config(D, dtype)
    options = {"BLOCK_N": config[1], "CAUSAL": True}
    compiled(forward_kernel, shape(D, config, **options), dtype, capability, config)
    config = backward_config(D, dtype)
    options["BLOCK_N"] = config[1]
    for kernel in (triton_backward.grad_q_kernel, triton_backward.grad_kv_kernel):
        compiled(kernel, shape(D, config, **options), dtype, capability, config)


@pytest.mark.parametrize("bits", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_cached_attention_and_score_read_quantised_keys(bits):
    from kernels.block_score import triton as score
    from kernels.cached_attention import triton as cached

    config = (128, 64, 4, 3)
    constants = shape(128, config, BLOCK_N=64, BITS=bits)
    compiled(cached._cached_kernel, constants, torch.bfloat16, 90, config, bits)
    constants = shape(128, (16,), BLOCK_N=64, BITS=bits, MASKED=False)
    compiled(score._score_kernel, constants, torch.bfloat16, 90, config, bits)


@pytest.mark.slow
def test_the_rest():
    from kernels.block_attention.triton_backward import sum_kernel
    from kernels.block_attention.triton_forward import merge_kernel
    from kernels.block_score.triton import _backward_kernel

    config = (64, 64, 4, 3)
    constants = shape(128, config)
    del constants["UPCAST"]
    for kernel in (merge_kernel, sum_kernel):
        compiled(kernel, constants, torch.bfloat16, 90, config)
    constants = shape(128, (16,), BLOCK_N=64, BITS=16, MASKED=True, ADD=True)
    compiled(_backward_kernel, constants, torch.bfloat16, 90, config, fp32={"grad_k"})
