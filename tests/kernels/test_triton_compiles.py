"""The Triton kernels compile for real GPUs, without one: to machine code, within shared memory.

What is compiled comes from the functions that launch it (`launch_cases`), for every model that is
shipped or named. The whole matrix is slow; the cases that ask for most are not.
"""

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
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
NAMES = {FP32: "*fp32", BF16: "*bf16", FP16: "*fp16"}
FLOATS = {
    *("o", "q", "k", "v", "grad_o", "grad_q", "grad_k", "grad_v", "out"),
    *("x", "residual", "total", "weight", "bias", "gate", "up", "cos", "sin", "out_q", "out_k"),
}
INTEGERS = {"table": "*i32", "merges": "*i32", "pieces": "*i32", "order": "*i64"}


def compiled(case, **ones):
    """Triton's binary; `ones` are arguments of 1, which Triton makes constants of."""
    from triton import compile as build
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    launch = case.launch
    constants = launch.constants | ones
    stored = {16: NAMES[case.dtype], 8: "*i8", 4: "*u8"}[case.bits]
    types, attributes = {}, {}
    for index, name in enumerate(launch.kernel.arg_names):
        if name in constants:
            types[name] = "constexpr"
        elif name in ("k", "v"):
            types[name] = stored
        elif name in FLOATS - case.parts:
            types[name] = NAMES[case.dtype]
        elif name in INTEGERS:
            types[name] = INTEGERS[name]
        elif name == "values":
            types[name] = "*fp8e4nv"
        elif name == "key_mask":
            types[name] = "*u8"
        elif name in ("scale", "eps"):
            types[name] = "fp32"
        elif name.startswith("stride") or name in ("T", "S", "R", "Nmax", "Hkv"):
            types[name] = "i32"
        else:
            types[name] = "*fp32"
        # Aligned addresses and strides are read in the widest pieces, through shared memory.
        if types[name].startswith("*") or name.startswith("stride"):
            attributes[(index,)] = [["tt.divisibility", 16]]
    binary = build(
        ASTSource(launch.kernel, types, constants, attributes),
        target=GPUTarget("cuda", case.capability, 32),
        options={"num_warps": launch.num_warps, "num_stages": launch.num_stages},
    )
    assert binary.asm["cubin"]
    return binary


def check(case, **ones):
    """The compiled `case` fits its chip, and asks for no more than the tile was chosen by."""
    from launch_cases import SHARED

    binary = compiled(case, **ones)
    assert binary.metadata.shared <= SHARED[case.capability], case
    assert case.bound is None or binary.metadata.shared <= case.bound <= SHARED[case.capability]
    return binary


def test_the_default_reranker_s_scores_fit_the_smallest_chip():
    """They asked for 294,912 bytes, and no GPU has more than 232,448."""
    from launch_cases import MODELS, cases

    found = [
        case
        for case in cases(MODELS["mini"], FP32, 86)
        if case.launch.constants["D"] == 384 and case.launch.constants["BLOCK_M"] == 64
    ]
    asked = {(c.launch.kernel.fn.__name__, c.bits): check(c).metadata.shared for c in found}
    assert set(asked) == {
        *(("score_kernel", bits) for bits in (16, 8, 4)),
        ("score_backward_kernel", 16),
        ("sum_kernel", 16),
    }
    assert max(asked.values()) <= 65_536


def test_forward_uses_hopper_s_matrix_instruction():
    """And one key head, stride or token is a constant of the kernel, as Triton makes it."""
    from launch_cases import MODELS, cases

    forward, *_ = cases(MODELS["Mistral-7B"], BF16, 90)
    binary = check(forward, Hkv=1, T=1)
    assert forward.launch.kernel.fn.__name__ == "forward_kernel"
    assert "wgmma.mma_async" in binary.asm["ptx"]


@pytest.mark.parametrize("capability", [89, 90])
def test_rows_become_fp8_by_the_chip_s_own_conversion(capability):
    from launch_cases import Case

    from kernels.triton_fp8 import quantize_launch

    ptx = check(Case(quantize_launch(14_336), BF16, capability)).asm["ptx"]
    assert "cvt.rn.satfinite.e4m3x2" in ptx
    assert "div.rn.f32" in ptx


# What asks for most of each kind: wide heads on the smallest chip, gradients, caches, odd sizes.
DEMANDING = [
    ("mini", FP32, 86, "grad_kv_kernel", 16),
    ("smollm2", FP16, 86, "forward_kernel", 16),
    ("Mistral-7B", BF16, 86, "cached_kernel", 4),
    ("Mistral-7B", BF16, 90, "grad_kv_kernel", 16),
    ("Gemma-3-1B", BF16, 86, "forward_kernel", 16),
    ("Gemma-3-1B", BF16, 86, "grad_q_kernel", 16),
    ("Gemma-3-1B", BF16, 86, "grad_kv_kernel", 16),
    ("Gemma-3-1B", BF16, 80, "cached_kernel", 16),
    ("Gemma-3-1B", FP16, 90, "score_backward_kernel", 16),
    ("heads of 80", BF16, 86, "score_backward_kernel", 16),
]


@pytest.mark.parametrize(("model", "dtype", "capability", "kernel", "bits"), DEMANDING)
def test_the_most_demanding_fit(model, dtype, capability, kernel, bits):
    from launch_cases import GENERIC, MODELS, cases

    check(
        max(
            (
                case
                for case in cases((MODELS | GENERIC)[model], dtype, capability)
                if case.launch.kernel.fn.__name__ == kernel and case.bits == bits
            ),
            key=lambda case: case.bound,
        )
    )


ROW_KERNELS = [
    ("minilm", "layer_norm_kernel"),
    ("minilm", "bias_gelu_kernel"),
    ("Mistral-7B", "rms_norm_kernel"),
    ("Mistral-7B", "rotary_kernel"),
    ("Mistral-7B", "swiglu_kernel"),
]


@pytest.mark.parametrize(("model", "kernel"), ROW_KERNELS)
def test_row_wise_kernels_read_in_the_widest_pieces(model, kernel):
    """Eight numbers of 16 bits at once, and shared memory for no more than sums."""
    from launch_cases import MODELS, row_cases

    (case, *_) = [
        case
        for case in row_cases(MODELS[model], BF16, 86)
        if case.launch.kernel.fn.__name__ == kernel
    ]
    binary = check(case)
    assert binary.metadata.shared <= 1024
    assert "ld.global.v4.b32" in binary.asm["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "capability"),
    [
        *((FP32, capability) for capability in (80, 86, 90)),
        *((BF16, capability) for capability in (80, 86, 89, 90)),
        *((FP16, capability) for capability in (86, 90)),
    ],
)
def test_every_kernel_fits_every_chip_at_every_model_s_shapes(capability, dtype, monkeypatch):
    """Prints what each kernel asks for at most: `pytest -m slow -s`."""
    from launch_cases import SHARED, matrix

    # Shared memory is laid out before LLVM, whose passes take most of the time.
    monkeypatch.setenv("DISABLE_LLVM_OPT", "1")
    most = {}
    for case in matrix(dtype, capability):
        name, asked = case.launch.kernel.fn.__name__, check(case).metadata.shared
        most[name] = max(most.get(name, (0, "")), (asked, str(case)))
    for _, (asked, case) in sorted(most.items()):
        print(f"{asked:>8} of {SHARED[capability]}  {case}")
    assert len(most) == 13
