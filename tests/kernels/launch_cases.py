"""What the models really launch: every kernel with its tiles, by model, dtype and chip.

Imports Triton, so it is imported where that is wanted.
"""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import torch

from kernels.block_attention import triton as attention
from kernels.block_score import triton as score
from kernels.cached_attention import triton as cached
from kernels.elementwise import triton as elementwise
from kernels.tile_sizes import (
    attention_bytes,
    backward_bytes,
    backward_tile,
    cached_tile,
    forward_tile,
    score_backward_bytes,
    score_backward_tile,
    score_bytes,
    score_tile,
)
from kernels.triton_launch import Launch

# Bytes of shared memory that a block may use: A100; consumer cards of two generations; H100.
SHARED = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BITS = (16, 8, 4)


class Heads(NamedTuple):
    """Query and key heads of one size; all that a kernel sees of a model."""

    query: int
    key: int
    size: int

    @property
    def group(self) -> int:
        return self.query // self.key


class Model(NamedTuple):
    """`attention` of its layers, and `score` of its scoring heads, in the dtypes they score in.

    `width` and `inner` of its feed-forward layers, where the model is one whose rows are fused.
    """

    attention: Heads
    causal: bool
    score: Heads
    score_dtypes: tuple[torch.dtype, ...] = DTYPES
    width: int = 0
    inner: int = 0


def _decoder(query: int, key: int, size: int, width: int = 0, inner: int = 0) -> Model:
    heads = Heads(query, key, size)
    return Model(heads, True, heads, width=width, inner=inner)


# An encoder scores with its normalised last states, one head as wide as the model, in fp32.
_MINILM = Model(Heads(12, 12, 32), False, Heads(1, 1, 384), (torch.float32,), 384, 1536)
MODELS = {
    "mini": _MINILM,
    "minilm": _MINILM,
    "smollm2": _decoder(9, 3, 64, 576, 1536),
    "Mistral-7B": _decoder(32, 8, 128, 4096, 14_336),
    "Qwen3-0.6B": _decoder(16, 8, 128, 1024, 3072),
    "Gemma-3-1B": _decoder(4, 1, 256),
    "Gemma-3-4B": _decoder(8, 4, 256),
    "Gemma-3-27B": _decoder(32, 16, 128),
}
# Head sizes of no model here, each with few and many query heads a key head.
GENERIC = {f"heads of {size}": _decoder(8, 2, size) for size in (16, 80, 96, 192, 384, 512)}
GENERIC["71 heads on one"] = _decoder(71, 1, 64)
# Signal tokens and query tokens: BlockRank's last two, and a question's.
SIGNALS = (2, 40)
QUERY_TOKENS = (4, 40)


class Case(NamedTuple):
    """One kernel to compile; `bound` is what `tile_sizes` says of its shared memory, if anything.

    `parts` names its arguments that are fp32 whatever the dtype.
    """

    launch: Launch
    dtype: torch.dtype
    capability: int
    bits: int = 16
    bound: int | None = None
    parts: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for cases of one dtype and chip that have the same matrix products.

        The number of query heads a key head changes addresses alone, and ADD one load.
        """
        launch = self.launch
        sizes = {k: v for k, v in launch.constants.items() if k not in ("G", "ADD")}
        options = (launch.num_warps, launch.num_stages, self.bits)
        return (launch.kernel.fn.__name__, *sorted(sizes.items()), *options)

    def __str__(self) -> str:
        constants = {k: v for k, v in self.launch.constants.items() if k != "UPCAST"}
        dtype = str(self.dtype).removeprefix("torch.")
        name = self.launch.kernel.fn.__name__
        return f"{name} {dtype} {self.bits} bits sm_{self.capability} {constants}"


def matrix(dtype: torch.dtype, capability: int) -> list[Case]:
    """Every case of every model, one of those that compile alike.

    Generic heads come where least fits; fp16 differs from bf16 in no size.
    """
    generic = GENERIC if capability == 86 and dtype != torch.float16 else {}
    found: dict[tuple[object, ...], Case] = {}
    for model in (*MODELS.values(), *generic.values()):
        for case in chain(cases(model, dtype, capability), row_cases(model, dtype, capability)):
            found.setdefault(case.key, case)
    return list(found.values())


def cases(model: Model, dtype: torch.dtype, capability: int) -> Iterator[Case]:
    """Every kernel of `model`, as it is launched on that chip; what takes another path is left."""
    shared = SHARED[capability]
    query, key, D = model.attention
    group, size = query // key, dtype.itemsize

    def case(launch: Launch, bound: int | None = None, bits: int = 16, *parts: str) -> Case:
        return Case(launch, dtype, capability, bits, bound, frozenset(parts))

    if tile := forward_tile(D, dtype, group, shared):
        attend, merge = attention.forward_launches(tile, D, group, model.causal)
        yield from (case(attend, attention_bytes(tile, size)), case(merge))
    if tile := backward_tile(D, dtype, group, shared):
        grad_q, grad_kv, *sums = attention.backward_launches(tile, D, group, model.causal)
        yield from (case(grad, backward_bytes(tile, size)) for grad in (grad_q, grad_kv))
        yield from (case(launch) for launch in sums)
    for tokens in QUERY_TOKENS if model.causal else ():
        if tile := cached_tile(D, dtype, group, group * tokens, shared):
            for bits in BITS:
                launches = cached.cached_launches(tile, D, group, True, bits)
                yield case(launches.cached, attention_bytes(tile, size), bits)
            yield case(launches.own.attend, attention_bytes(tile, size))
            yield case(launches.own.merge)
    if dtype in model.score_dtypes:
        yield from _score_cases(model.score, dtype, capability)


def row_cases(model: Model, dtype: torch.dtype, capability: int) -> Iterator[Case]:
    """The row-wise kernels of `model`, which all dtypes and chips run with the same sizes."""
    (query, key, size), width, inner = model.attention, model.width, model.inner
    if not width:
        return
    if model.causal:
        launches = [
            elementwise.rms_norm_launch(width, add=True),
            elementwise.rms_norm_launch(width, add=False),
            elementwise.rms_norm_launch(size, add=False),
            elementwise.rotary_launch(query, key, size),
            elementwise.swiglu_launch(inner),
        ]
    else:
        launches = [elementwise.layer_norm_launch(width), elementwise.bias_gelu_launch(inner)]
    yield from (Case(launch, dtype, capability) for launch in launches)


def _score_cases(heads: Heads, dtype: torch.dtype, capability: int) -> Iterator[Case]:
    shared, size, D, group = SHARED[capability], dtype.itemsize, heads.size, heads.group
    for rows in (group * signals for signals in SIGNALS):
        if tile := score_tile(D, dtype, group, rows, shared):
            bound = score_bytes(tile, size, D > tile.BLOCK_D)
            for bits in BITS:
                launch = score.score_launch(tile, D, group, bits, masked=True)
                yield Case(launch, dtype, capability, bits, bound)
        if tile := score_backward_tile(D, dtype, group, rows, shared):
            grads, add_grads, sum_q = score.backward_launches(tile, D, group, masked=True)
            bound = score_backward_bytes(tile, size, D > tile.BLOCK_D)
            for launch in (grads, add_grads):
                yield Case(launch, dtype, capability, 16, bound, frozenset({"grad_k"}))
            yield Case(sum_q, dtype, capability, parts=frozenset({"out"}))
