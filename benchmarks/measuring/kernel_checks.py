"""Every kernel against the float64 reference, over a dozen ragged layouts.

In: a `KernelTask` that names kernel, heads, dtype and implementation. Out: `Finding`s, each the
largest error over the layouts beside its bound, and the layout that had it.

    KernelTask("attention", MINILM, "bfloat16", "triton", "cuda").check()

Errors are relative in the Euclidean norm. Bounds are those of `tests/kernels`: a gradient's error
is a share of the larger of its own and, in attention, the upstream's norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from kernels import (
    BlockLayout,
    CachedLayout,
    CachedRequest,
    QuantizedTokens,
    RequestBlocks,
    block_attention,
    block_score,
    cached_attention,
    cached_block_score,
    quantize_tokens,
)
from kernels.tile_sizes import Tile
from measuring.attention_cases import MINILM, MISTRAL, SMOLLM2, Shape
from measuring.workers import Finding

TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
SUMS = 1e-5  # log-sum-exps and masses are fp32 whatever the dtype
# An encoder's score is one head as wide as the model.
WIDE = Shape("mini's score", 1, 1, 384, False)
TINY = Shape("tiny", 4, 2, 16, True)
ATTENTION = (MINILM, SMOLLM2, MISTRAL)
SCORE = (WIDE, SMOLLM2, MISTRAL)
CACHED = (SMOLLM2, MISTRAL)
# No total is a multiple of 16: Triton would compile a kernel once more for such a one.
_EDGES = [RequestBlocks(5, [7, 0, 1, 40], 9), RequestBlocks(0, [3], 20), RequestBlocks(4, [], 0)]
LAYOUTS = {
    "edges": _EDGES,
    "no query": [RequestBlocks(9, [50, 20, 5], 0)],
    "three tokens": [RequestBlocks(1, [1], 1)],
    "tile edges": [RequestBlocks(31, [32, 33, 63, 64, 65], 17)],
    "larger tile edges": [RequestBlocks(127, [128, 129, 255, 256, 257], 2)],
    "no instruction": [RequestBlocks(0, [100, 3, 77], 21)],
    "query alone": [RequestBlocks(0, [], 37)],
    "keys that are cut": [RequestBlocks(6, [1500, 20], 15)],
    "long instruction": [RequestBlocks(1100, [40, 41], 9)],
    "many short": [RequestBlocks(3, [7 * i % 23 for i in range(120)], 11)],
    "long query": [RequestBlocks(24, [90, 150], 203)],
    "a batch": [RequestBlocks(24, [80, 121, 95], 20), RequestBlocks(24, [33, 300], 20)] * 2,
}
QUICK = tuple(LAYOUTS)[:2]


class KernelTask(NamedTuple):
    """What one worker checks: `kernel` is a key of `CHECKS`; `tile` forces a forward tile."""

    kernel: str
    shape: Shape
    dtype: str
    implementation: str
    device: str
    bits: int = 16
    quick: bool = False
    tile: Tile | None = None

    @property
    def name(self) -> str:
        """As a row names it."""
        _, heads, kv_heads, size, causal = self.shape
        words = [self.kernel, self.dtype, f"{heads}/{kv_heads} heads of {size}"]
        words += ["causal"] * (causal and self.kernel != "score")
        if self.kernel == "cached":
            words.append("unquantized" if self.bits == 16 else f"{self.bits} bits")
        words += [f"tile {tuple(self.tile)}"] if self.tile else []
        return f"{' '.join(words)} ({self.implementation})"

    def check(self) -> list[Finding]:
        """The largest error of each of the kernel's outputs over all layouts."""
        worst: dict[str, Finding] = {}
        for name in QUICK if self.quick else LAYOUTS:
            layout = BlockLayout.build(LAYOUTS[name], device=self.device)
            for what, error, bound in CHECKS[self.kernel](self, layout):
                known = math.inf if math.isnan(error) else error
                found = Finding(f"{self.name}: {what}", known, bound, name)
                worst[what] = max(worst.get(what, found), found, key=lambda one: one.error)
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()
        return list(worst.values())


Errors = Iterator[tuple[str, float, float]]


def _attention(task: KernelTask, layout: BlockLayout) -> Errors:
    inputs = [x.requires_grad_() for x in _qkv(task, layout)]
    options = {"causal": task.shape.causal, "return_lse": True}
    o, lse = block_attention(*inputs, layout, **options, implementation=task.implementation)
    upstream = torch.randn(o.shape, generator=torch.Generator().manual_seed(1)).to(o)
    grads = torch.autograd.grad(o, inputs, upstream)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    exact, exact_lse = block_attention(*wide, layout, **options, implementation="reference")
    bound = TOLERANCE[task.dtype]
    yield "o", relative_error(o, exact), bound
    yield "lse", relative_error(lse, exact_lse), SUMS
    least = upstream.double().norm().item()
    wanted = torch.autograd.grad(exact, wide, upstream.double())
    for name, got, want in zip("qkv", grads, wanted, strict=True):
        yield f"gradient of {name}", relative_error(got, want, least), bound


def _forward_tile(task: KernelTask, layout: BlockLayout) -> Errors:
    from kernels.block_attention import triton

    q, k, v = _qkv(task, layout)
    causal = task.shape.causal
    o, _ = triton.forward(q, k, v, layout, q.shape[2] ** -0.5, causal, tile=task.tile)
    wide = (x.double() for x in (q, k, v))
    exact = block_attention(*wide, layout, causal=causal, implementation="reference")
    yield "o", relative_error(o, exact), TOLERANCE[task.dtype]


def _score(task: KernelTask, layout: BlockLayout) -> Errors:
    q, k, _ = _qkv(task, layout)
    generator = torch.Generator().manual_seed(2)
    owners = list(range(layout.num_requests)) * 3
    q = torch.randn(len(owners), *q.shape[1:], generator=generator).to(q).requires_grad_()
    k.requires_grad_()
    mask = (torch.rand(layout.num_tokens, generator=generator) < 0.8).to(layout.device)
    options = {"signal_request": owners, "key_mask": mask}
    wide = [x.detach().double().requires_grad_() for x in (q, k)]
    got = block_score(q, k, layout, **options, implementation=task.implementation)
    wanted = block_score(*wide, layout, **options, implementation="reference")
    finite = wanted.log_sum_exp > -torch.inf
    yield "which passages score", float((finite != (got.log_sum_exp > -torch.inf)).sum()), 0.0
    yield "mass", relative_error(got.mass, wanted.mass), SUMS
    sums = [x.log_sum_exp[finite] for x in (got, wanted)]
    yield "log_sum_exp", relative_error(*sums), SUMS
    if finite.any():
        weight = torch.randn(finite.shape, generator=generator).to(layout.device)
        sides = ((got, sums[0], (q, k)), (wanted, sums[1], wide))
        grads = [
            torch.autograd.grad((x.mass * weight).sum() + lse.sum(), of) for x, lse, of in sides
        ]
        for name, a, b in zip("qk", *grads, strict=True):
            yield f"gradient of {name}", relative_error(a, b), TOLERANCE[task.dtype]


def _cached(task: KernelTask, layout: BlockLayout) -> Errors:
    q, k, v = _qkv(task, layout)
    bits, causal = task.bits, task.shape.causal
    pools = [QuantizedTokens(x) if bits == 16 else quantize_tokens(x, bits) for x in (k, v)]
    spans = [CachedRequest(s.instruction, s.passages, s.query.length) for s in layout.spans]
    cached = CachedLayout.build(spans, device=layout.device)
    rows = torch.cat([torch.arange(*s.query, device=layout.device) for s in layout.spans])
    owners = list(range(layout.num_requests)) * 2
    generator = torch.Generator().manual_seed(3)
    signals = torch.randn(len(owners), *q.shape[1:], generator=generator).to(q)
    inputs = [*(x[rows] for x in (q, k, v)), signals]

    def results(of: list[torch.Tensor], name: str) -> tuple[torch.Tensor, ...]:
        attended = cached_attention(*of[:3], *pools, cached, causal=causal, implementation=name)
        scores = cached_block_score(
            of[3], pools[0], cached, signal_request=owners, implementation=name
        )
        return *attended, scores.mass

    found = results(inputs, task.implementation)
    wanted = results([x.double() for x in inputs], "reference")
    bounds = {"o": TOLERANCE[task.dtype], "lse": SUMS, "score mass": SUMS}
    for (what, bound), got, want in zip(bounds.items(), found, wanted, strict=True):
        yield what, relative_error(got, want), bound


def _company(task: KernelTask, layout: BlockLayout) -> Errors:
    """Numbers that differ between a request alone and in the batch: there must be none."""
    q, k, v = _qkv(task, layout)
    causal, name = task.shape.causal, task.implementation
    o = block_attention(q, k, v, layout, causal=causal, implementation=name)
    owners = list(range(layout.num_requests))
    signals = q[: len(owners)].clone()
    lse = block_score(signals, k, layout, signal_request=owners, implementation=name).log_sum_exp
    different, scored = 0, 0
    for number, (request, spans) in enumerate(zip(layout.requests, layout.spans, strict=True)):
        tokens = slice(spans.instruction.start, spans.query.end)
        alone = BlockLayout.build([request], device=layout.device)
        parts = [x[tokens].clone() for x in (q, k, v)]
        again = block_attention(*parts, alone, causal=causal, implementation=name)
        different += int((again != o[tokens]).sum())
        one = block_score(
            signals[number : number + 1], parts[1], alone, signal_request=[0], implementation=name
        )
        wanted = lse[:, number : number + 1, : len(request.passages)]
        scored += int((one.log_sum_exp != wanted).sum())
    yield "numbers of o that company changes", float(different), 0.0
    yield "scores that company changes", float(scored), 0.0


CHECKS: dict[str, Callable[[KernelTask, BlockLayout], Errors]] = {
    "attention": _attention,
    "tile": _forward_tile,
    "score": _score,
    "cached": _cached,
    "company": _company,
}


def kernel_tasks(device: str, quick: bool) -> list[KernelTask]:
    """All that is checked on a GPU; on a CPU its own path, tiny, and Triton where it is read."""
    if torch.device(device).type == "cuda":
        return _tasks("triton", device, quick, (TINY,) if quick else None, tuple(TOLERANCE))
    return _tasks("cpu", device, True, (TINY,), tuple(TOLERANCE))


def interpreted_tasks(device: str) -> list[KernelTask]:
    """One tiny shape in Triton's interpreter, in the dtype that is fastest there, and a tile."""
    tile = KernelTask(
        "tile", TINY, "float32", "triton", device, quick=True, tile=Tile(32, 16, 16, 4, 2)
    )
    return [*_tasks("triton", device, True, (TINY,), ("float32",)), tile]


def _tasks(
    name: str, device: str, quick: bool, shapes: tuple[Shape, ...] | None, dtypes: tuple[str, ...]
) -> list[KernelTask]:
    tasks = []
    for dtype in dtypes:
        for kernel, own in (("attention", ATTENTION), ("score", SCORE), ("cached", CACHED)):
            for shape in shapes or own:
                for bits in (16, 8, 4) if kernel == "cached" else (16,):
                    tasks.append(KernelTask(kernel, shape, dtype, name, device, bits, quick))
        company = (shapes or ATTENTION)[-1]
        tasks.append(KernelTask("company", company, dtype, name, device, quick=quick))
    return tasks


def relative_error(got: torch.Tensor, wanted: torch.Tensor, least: float = 0.0) -> float:
    """|got - wanted| / max(|wanted|, least) in the Euclidean norm; 0 where nothing differs."""
    wanted = wanted.double()
    difference = (got.double() - wanted).norm().item()
    return difference / max(wanted.norm().item(), least, 1e-300) if difference else 0.0


def _qkv(task: KernelTask, layout: BlockLayout) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    counts = (task.shape.heads, task.shape.kv_heads, task.shape.kv_heads)
    sizes = [(layout.num_tokens, heads, task.shape.head_size) for heads in counts]
    dtype = getattr(torch, task.dtype)
    return [torch.randn(size, generator=generator).to(layout.device, dtype) for size in sizes]
