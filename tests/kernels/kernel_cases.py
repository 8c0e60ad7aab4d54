"""Layouts and tensors that the kernel tests share."""

from collections.abc import Sequence

import torch
from hypothesis import strategies as st

from kernels import BlockLayout, RequestBlocks

# Every kind of block: empty, one token, around the sizes at which kernels and plans change shape.
block_lengths = st.one_of(
    st.sampled_from([0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65]), st.integers(0, 140)
)
requests = st.lists(
    st.builds(
        RequestBlocks,
        instruction=block_lengths,
        passages=st.lists(block_lengths, max_size=6),
        query=st.one_of(st.sampled_from([0, 1, 16, 63, 64, 65]), st.integers(0, 80)),
    ),
    min_size=1,
    max_size=4,
)

# One layout with a bit of everything, for tests that need no search.
MIXED = [
    RequestBlocks(5, [7, 0, 1, 40, 130], 9),
    RequestBlocks(0, [3], 70),
    RequestBlocks(4, [], 0),
    RequestBlocks(0, [0], 1),
    RequestBlocks(2, [33, 300], 20),
]


def qkv(
    layout: BlockLayout,
    heads: int,
    kv_heads: int,
    head_size: int,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random q [T,Hq,D], k and v [T,Hkv,D] on the layout's device."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(layout.num_tokens, h, head_size) for h in (heads, kv_heads, kv_heads)]
    q, k, v = (torch.randn(shape, generator=generator).to(layout.device, dtype) for shape in shapes)
    return q, k, v


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """|got - wanted| / |wanted| in the Euclidean norm; 0 for two empty or two zero tensors."""
    wanted = wanted.double()
    difference = (got.double() - wanted).norm().item()
    assert difference == difference, "NaN in the result"
    return difference / wanted.norm().item() if difference else 0.0


def pack(parts: Sequence[Sequence[torch.Tensor]]) -> tuple[torch.Tensor, ...]:
    """Put several (q, k, v) one after the other."""
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
