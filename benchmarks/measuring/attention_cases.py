"""Attention as models and reranked lists ask for it: shapes, ragged layouts, inputs, the work.

In: a shape and a number of passages. Out: a `Case`, whose tensors are random.

    case = make_case(MINILM, 100, torch.float32, torch.device("cpu"))

Passages have log-normal lengths of mean 100 tokens; instruction 24 and query 20 tokens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from kernels import BlockLayout, RequestBlocks


class Shape(NamedTuple):
    """Attention of one layer of a model."""

    name: str
    heads: int
    kv_heads: int
    head_size: int
    causal: bool

    @property
    def group(self) -> int:
        """Query heads a key head."""
        return self.heads // self.kv_heads


MINILM = Shape("MiniLM", 12, 12, 32, False)
SMOLLM2 = Shape("SmolLM2", 9, 3, 64, True)
QWEN3 = Shape("Qwen3-0.6B", 16, 8, 128, True)
MISTRAL = Shape("Mistral-7B", 32, 8, 128, True)
INSTRUCTION, QUERY, MEAN, SIGMA = 24, 20, 100, 0.5


class Case(NamedTuple):
    """One request of one shape: q, k, v [T,H,D] are views of what transformers hands over,
    head-major [H,T,D].
    """

    shape: Shape
    layout: BlockLayout
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor

    @property
    def passages(self) -> int:
        """N."""
        return self.layout.num_passages

    @property
    def tokens(self) -> int:
        """T."""
        return self.layout.num_tokens

    @property
    def head_major(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q, k, v as [H,T,D]."""
        q, k, v = (x.transpose(0, 1) for x in (self.q, self.k, self.v))
        return q, k, v


def layout_of(passages: int, device: torch.device) -> BlockLayout:
    """One request of `passages` log-normal lengths, the same ones in every run."""
    generator = torch.Generator().manual_seed(passages)
    normal = torch.randn(passages, generator=generator, dtype=torch.float64)
    lengths = torch.exp(normal * SIGMA + math.log(MEAN) - SIGMA**2 / 2).round().clamp(min=4)
    blocks = RequestBlocks(INSTRUCTION, lengths.int().tolist(), QUERY)
    return BlockLayout.build([blocks], device=device)


def make_case(shape: Shape, passages: int, dtype: torch.dtype, device: torch.device) -> Case:
    """A request of `passages`, the same numbers in every run."""
    layout = layout_of(passages, device)
    generator = torch.Generator(device).manual_seed(0)
    heads = (shape.heads, shape.kv_heads, shape.kv_heads)
    sizes = ((h, layout.num_tokens, shape.head_size) for h in heads)
    drawn = (torch.randn(size, generator=generator, device=device).to(dtype) for size in sizes)
    return Case(shape, layout, *(x.transpose(0, 1) for x in drawn))


def attention_work(layout: BlockLayout, shape: Shape, dtype: torch.dtype) -> tuple[float, float]:
    """(flops, bytes) that nothing can avoid: pairs under the mask, each tensor once."""
    pairs = 0.0
    for instruction, passages, query in layout.requests:
        for length, others in (
            (instruction, 0),
            *((n, instruction) for n in passages),
            (query, instruction + sum(passages)),
        ):
            own = length * (length + 1) / 2 if shape.causal else length * length
            pairs += own + length * others
    T = layout.num_tokens
    moved = T * shape.head_size * (2 * shape.heads + 2 * shape.kv_heads) * dtype.itemsize
    return 4 * pairs * shape.heads * shape.head_size, moved + T * shape.heads * 4


def floor_ms(work: tuple[float, float], chip: tuple[float, float]) -> float:
    """The least milliseconds for `work` (flops, bytes) at the rates of `chip` a second."""
    return max(done / rate for done, rate in zip(work, chip, strict=True)) * 1e3
