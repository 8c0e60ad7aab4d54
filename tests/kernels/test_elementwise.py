"""The row-wise operations are what transformers' own modules compute, and refuse what can't be."""

from importlib import import_module

import pytest
import torch
from elementwise_cases import EPS, OPERATIONS, angles
from transformers import BertConfig, LlamaConfig
from transformers.models.bert.modeling_bert import BertIntermediate, BertSelfOutput

from kernels.elementwise import (
    WIDEST,
    add_layer_norm,
    add_rms_norm,
    bias_gelu,
    rms_norm,
    rotary,
    swiglu,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FAMILIES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
WIDTH = 40


def module_of(family):
    return import_module(f"transformers.models.{family}.modeling_{family}")


def rows(dtype, *shape):
    return torch.randn(*(shape or (1, 7, WIDTH))).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_rms_norm_has_the_bits_of_every_family_s_own(family, dtype):
    norm = getattr(module_of(family), f"{FAMILIES[family]}RMSNorm")(WIDTH, eps=EPS).to(dtype)
    torch.nn.init.normal_(norm.weight)
    x, residual = rows(dtype), rows(dtype)
    assert torch.equal(rms_norm(x, norm.weight, EPS), norm(x))
    total, normed = add_rms_norm(x, residual, norm.weight, EPS)
    assert torch.equal(total, residual + x)
    assert torch.equal(normed, norm(residual + x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_rotary_has_the_bits_of_every_family_s_own(family, dtype):
    q, k = rows(dtype, 1, 4, 5, 12), rows(dtype, 1, 2, 5, 12)
    cos, sin = angles(5, 12, dtype)
    wanted = module_of(family).apply_rotary_pos_emb(q, k, cos[None], sin[None])
    found = rotary(q[0].transpose(0, 1), k[0].transpose(0, 1), cos, sin)
    for got, want in zip(found, wanted, strict=True):
        assert torch.equal(got.transpose(0, 1)[None], want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu_has_the_bits_of_a_feed_forward_layer(dtype):
    config = LlamaConfig(hidden_size=WIDTH, intermediate_size=96, num_attention_heads=4)
    layer = module_of("llama").LlamaMLP(config).to(dtype)
    x = rows(dtype)
    assert torch.equal(layer.down_proj(swiglu(layer.gate_proj(x), layer.up_proj(x))), layer(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_and_gelu_have_the_bits_of_a_bert_s(dtype):
    config = BertConfig(hidden_size=WIDTH, intermediate_size=96, num_attention_heads=4)
    out, inner = BertSelfOutput(config).to(dtype).eval(), BertIntermediate(config).to(dtype)
    torch.nn.init.normal_(out.LayerNorm.weight)
    torch.nn.init.normal_(inner.dense.bias)
    x, residual = rows(dtype), rows(dtype)
    norm = out.LayerNorm
    found = add_layer_norm(out.dense(x), residual, norm.weight, norm.bias, norm.eps)
    assert torch.equal(found, out(x, residual))
    product = torch.nn.functional.linear(x, inner.dense.weight)
    wanted = inner.intermediate_act_fn(product + inner.dense.bias)
    assert torch.equal(bias_gelu(product, inner.dense.bias), wanted)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_are_those_of_the_plain_operations(name):
    """Where one is asked for nothing is fused; on a GPU neither."""
    inputs = [x.requires_grad_() for x in OPERATIONS[name].inputs((3, 8), torch.float64)]
    assert torch.autograd.gradcheck(lambda *x: OPERATIONS[name](list(x)), inputs)


X, Y = torch.ones(3, 8), torch.ones(8)
HEADS, TURNS = torch.ones(3, 2, 4), torch.ones(3, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rms_norm(torch.ones(()), Y, EPS), r"x must be \[..., D\].*got x \(\)"),
        (lambda: rms_norm(torch.ones(3, 0), Y, EPS), r"got x \(3, 0\)"),
        (lambda: add_rms_norm(X, X[:2], Y, EPS), r"x and residual must be .* residual \(2, 8\)"),
        (lambda: rms_norm(X, Y[:7], EPS), r"weight must be \[8\], as the rows are; got \(7,\)"),
        (lambda: add_layer_norm(X, X, Y, Y[:1], EPS), r"bias must be \[8\]"),
        (lambda: swiglu(X, X.half()), r"share a float dtype.*gate torch.float32.*up torch.float16"),
        (lambda: bias_gelu(X.int(), Y.int()), r"share a float dtype.*torch.int32"),
        (lambda: swiglu(X, torch.ones(8, 3).t()), r"last dimension of up must be contiguous"),
        (lambda: rotary(HEADS[..., :3], HEADS, TURNS, TURNS), r"an even D; got \(3, 2, 3\)"),
        (lambda: rotary(HEADS, HEADS[:2], TURNS, TURNS), r"got \(3, 2, 4\) and \(2, 2, 4\)"),
        (
            lambda: rotary(HEADS, HEADS, TURNS, TURNS[:, :2]),
            r"cos and sin must be \[T,D\] = \(3, 4",
        ),
        (lambda: rms_norm(X, Y, EPS, implementation="fast"), "unknown implementation 'fast'"),
    ],
)
def test_what_does_not_fit_together_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (X.double(), "torch.float64 rows of 8"),
        (torch.ones(1, WIDEST + 1), f"rows of {WIDEST + 1}"),
        (X.clone().requires_grad_(), "with gradients: 'reference' can"),
    ],
)
def test_what_triton_cannot_take_is_told(x, told, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(ValueError, match=told):
        swiglu(x, x.detach(), implementation="triton")
