"""Read a block of cached tokens in a Triton kernel, whatever they are stored as."""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def load_tokens(
    x, scale, token, real, stride_t, stride_scale, dtype: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    """[tokens, BLOCK_D] in dtype, to be multiplied by the tokens' scales; zeros where not real.

    8 and 4-bit numbers are whole and small, so fp16 and bf16 hold them exactly: products with them
    are exact, and the scale is applied to the sums (1 for tokens stored as floats).
    """
    at = token.to(tl.int64)[:, None] * stride_t
    if BITS == 4:
        half = tl.arange(0, BLOCK_D // 2)
        read = real[:, None] & (half < D // 2)[None, :]
        pairs = tl.load(x + at + half[None, :], mask=read, other=0x88)
        low = (pairs & 15).to(tl.int8) - 8
        high = (pairs >> 4).to(tl.int8) - 8
        values = tl.interleave(low, high)
    else:
        d = tl.arange(0, BLOCK_D)
        values = tl.load(x + at + d[None, :], mask=real[:, None] & (d < D)[None, :], other=0)
    if BITS < 16:
        # The interpreter turns whole numbers into bf16 wrongly; hardware goes through fp32 as well.
        values = values.to(tl.float32)
        scales = tl.load(scale + token.to(tl.int64) * stride_scale, mask=real, other=0.0)
    else:
        scales = tl.where(real, 1.0, 0.0)
    return values.to(dtype), scales
