"""The Triton kernels of the row-wise operations; `triton` launches them.

A norm's program does ROWS whole rows [R,D], padded to BLOCK_D in registers; a row's sums have one
order whatever rows are beside it. R is never a constant of the kernel: batches of every number of
tokens share one binary, and with it a row's bits. All arithmetic is fp32.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def whole_rows(R, D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """Where the program's rows lie, and which of their numbers are real."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d = tl.arange(0, BLOCK_D)
    return row.to(tl.int64)[:, None] * D + d[None, :], (row < R)[:, None] & (d < D)[None, :]


@triton.jit
def one_row(vector, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """A vector [D] that every row shares, as [1, BLOCK_D]."""
    d = tl.arange(0, BLOCK_D)
    return tl.load(vector + d, mask=d < D, other=0.0).to(tl.float32)[None, :]


@triton.jit(do_not_specialize=["R"])
def rms_norm_kernel(
    x, residual, weight, total, out, R, eps,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """out = weight * rms_norm(x), or with ADD of total = x + residual."""
    at, real = whole_rows(R, D, ROWS, BLOCK_D)
    rounded: tl.constexpr = out.dtype.element_ty
    values = tl.load(x + at, mask=real, other=0.0).to(tl.float32)
    if ADD:
        values += tl.load(residual + at, mask=real, other=0.0).to(tl.float32)
        # What the next layer adds to is what is normalised here.
        sums = values.to(rounded)
        tl.store(total + at, sums, mask=real)
        values = sums.to(tl.float32)
    mean_square = tl.sum(values * values, 1) / D
    values = (values * tl.rsqrt(mean_square + eps)[:, None]).to(rounded).to(tl.float32)
    tl.store(out + at, (values * one_row(weight, D, BLOCK_D)).to(rounded), mask=real)


@triton.jit(do_not_specialize=["R"])
def layer_norm_kernel(
    x, residual, weight, bias, out, R, eps,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """out = layer_norm(x + residual) * weight + bias, rounded once."""
    at, real = whole_rows(R, D, ROWS, BLOCK_D)
    values = tl.load(x + at, mask=real, other=0.0).to(tl.float32)
    values += tl.load(residual + at, mask=real, other=0.0).to(tl.float32)
    mean = tl.sum(values, 1) / D
    values = tl.where(real, values - mean[:, None], 0.0)
    variance = tl.sum(values * values, 1) / D
    values *= tl.rsqrt(variance + eps)[:, None]
    values = values * one_row(weight, D, BLOCK_D) + one_row(bias, D, BLOCK_D)
    tl.store(out + at, values.to(out.dtype.element_ty), mask=real)


@triton.jit
def swiglu_kernel(gate, up, out, stride_gt, stride_ut, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """A piece of one row: out = silu(gate) * up, rounded once."""
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    x = tl.load(gate + row * stride_gt + d, mask=d < D, other=0.0).to(tl.float32)
    factor = tl.load(up + row * stride_ut + d, mask=d < D, other=0.0).to(tl.float32)
    y = x / (1 + tl.exp(-x)) * factor
    tl.store(out + row * D + d, y.to(out.dtype.element_ty), mask=d < D)


@triton.jit
def bias_gelu_kernel(x, bias, out, stride_xt, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """A piece of one row: out = gelu(x + bias) by the error function, rounded once."""
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    y = tl.load(x + row * stride_xt + d, mask=d < D, other=0.0).to(tl.float32)
    y += tl.load(bias + d, mask=d < D, other=0.0).to(tl.float32)
    y = 0.5 * y * (1 + tl.erf(y * 0.7071067811865476))
    tl.store(out + row * D + d, y.to(out.dtype.element_ty), mask=d < D)


@triton.jit
def rotate_heads(
    x, out, token, cos_low, cos_high, sin_low, sin_high, stride_xt, stride_xh,
    H: tl.constexpr, D: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """All H heads of one token, BLOCK_H at once, as halves of BLOCK_D or fewer numbers."""
    half: tl.constexpr = D // 2
    d = tl.arange(0, BLOCK_D)[None, :]
    for first in range(0, H, BLOCK_H):
        head = first + tl.arange(0, BLOCK_H)[:, None]
        real = (head < H) & (d < half)
        at = x + token * stride_xt + head * stride_xh + d
        low = tl.load(at, mask=real, other=0.0).to(tl.float32)
        high = tl.load(at + half, mask=real, other=0.0).to(tl.float32)
        to = out + (token * H + head) * D + d
        y_low = low * cos_low - high * sin_low
        y_high = high * cos_high + low * sin_high
        tl.store(to, y_low.to(out.dtype.element_ty), mask=real)
        tl.store(to + half, y_high.to(out.dtype.element_ty), mask=real)


@triton.jit
def rotary_kernel(
    q, k, cos, sin, out_q, out_k,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_ct, stride_st,
    HQ: tl.constexpr, HKV: tl.constexpr, D: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One token: its query heads, then its key heads, by the same angles; rounded once."""
    token = tl.program_id(0).to(tl.int64)
    half: tl.constexpr = D // 2
    cos_low = one_row(cos + token * stride_ct, half, BLOCK_D)
    cos_high = one_row(cos + token * stride_ct + half, half, BLOCK_D)
    sin_low = one_row(sin + token * stride_st, half, BLOCK_D)
    sin_high = one_row(sin + token * stride_st + half, half, BLOCK_D)
    rotate_heads(
        q, out_q, token, cos_low, cos_high, sin_low, sin_high, stride_qt, stride_qh,
        HQ, D, BLOCK_H, BLOCK_D,
    )  # fmt: skip
    rotate_heads(
        k, out_k, token, cos_low, cos_high, sin_low, sin_high, stride_kt, stride_kh,
        HKV, D, BLOCK_H, BLOCK_D,
    )  # fmt: skip
