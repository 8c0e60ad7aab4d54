"""Read a block of cached tokens in a Triton kernel, whatever they are stored as."""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def load_tokens(
    x, token, real, stride_t, first, dtype: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    """[tokens, BLOCK_D] in dtype from dimension `first` on, to be multiplied by `load_scales`.

    Zeros where not real. 8 and 4-bit numbers are whole and small, so fp16 and bf16 hold them
    exactly: products with them are exact, and the scale is applied to the sums.
    """
    at = token.to(tl.int64)[:, None] * stride_t
    if BITS == 4:
        half = first // 2 + tl.arange(0, BLOCK_D // 2)
        read = real[:, None] & (half < D // 2)[None, :]
        pairs = tl.load(x + at + half[None, :], mask=read, other=0x88)
        low = (pairs & 15).to(tl.int8) - 8
        high = (pairs >> 4).to(tl.int8) - 8
        values = tl.interleave(low, high)
    else:
        d = first + tl.arange(0, BLOCK_D)
        values = tl.load(x + at + d[None, :], mask=real[:, None] & (d < D)[None, :], other=0)
    if BITS < 16:
        # The interpreter turns whole numbers into bf16 wrongly; hardware goes through fp32 as well.
        values = values.to(tl.float32)
    return values.to(dtype)


@triton.jit
def load_scales(scale, token, real, stride_scale, BITS: tl.constexpr):
    """[tokens]: what `load_tokens`' numbers are multiplied by; 1 for tokens stored as floats."""
    if BITS < 16:
        scales = tl.load(scale + token.to(tl.int64) * stride_scale, mask=real, other=0.0)
    else:
        scales = tl.where(real, 1.0, 0.0)
    return scales
