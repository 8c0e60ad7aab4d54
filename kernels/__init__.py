"""Block-sparse attention over packed, ragged blocks: torch and Triton alone."""

from importlib import metadata as _metadata

# Hugging Face's distribution of this name unpacks over our files, and what is left is neither.
if any(True for _ in _metadata.distributions(name="kernels")):
    raise ImportError(
        "the distribution `kernels` is installed beside blockseek and overwrites blockseek's own "
        "package of that name: pip uninstall kernels, then reinstall blockseek"
    )

from kernels.block_attention import block_attention
from kernels.block_score import BlockScores, block_score, token_mass
from kernels.cached_attention import cached_attention, cached_block_score
from kernels.cached_attention.layout import CachedLayout, CachedRequest
from kernels.dispatch import chosen_implementation
from kernels.fp8_linear import Fp8Linear, fp8_linear, fp8_linears, missing_for_fp8, quantize_rows
from kernels.fp8_rows import Fp8Rows
from kernels.layout import BlockLayout, RequestBlocks
from kernels.linear import SteadyLinear, has_bfloat16_units, linear, steady_linears
from kernels.quantized import QuantizedTokens, quantize_tokens

__all__ = [
    "BlockLayout",
    "BlockScores",
    "CachedLayout",
    "CachedRequest",
    "Fp8Linear",
    "Fp8Rows",
    "QuantizedTokens",
    "RequestBlocks",
    "SteadyLinear",
    "block_attention",
    "block_score",
    "cached_attention",
    "cached_block_score",
    "chosen_implementation",
    "fp8_linear",
    "fp8_linears",
    "has_bfloat16_units",
    "linear",
    "missing_for_fp8",
    "quantize_rows",
    "quantize_tokens",
    "steady_linears",
    "token_mass",
]
