"""The shipped rerankers on a device against themselves on the CPU, and what order and company do.

In: a `ModelTask`. Out: `Finding`s. A difference of scores is told as a share of the standard
deviation of the CPU's float32 scores, or fp8 ones where the model is in fp8; bounds are those of
`tests/rerank/test_gpu.py`.

    ModelTask("mini", "bfloat16", "cuda").check()
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from passages import QUERY, make_passages

from configs.models import MINI, MINILM, SMOLLM2
from measuring.model_folder import random_weights, smollm2_folder
from measuring.workers import Finding
from rerank import BlockRanker
from rerank.backbones.fp8 import FP8
from rerank.backbones.loading import load_backbone
from rerank.settings.reading import settings_for

MODELS = (MINI, MINILM, SMOLLM2)
# fp32 adds up in another order; fp16 and bf16 have 11 and 8 bits. fp8, of 4, is compared with fp8:
# last bits of layers' outputs that were changed at random moved `smollm2`'s scores by .14 to .58.
BOUNDS = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.15, FP8: 1.0}
# Where states of another order of sums are rounded to few bits, some go to the next number.
CACHE_BOUNDS = {32: 1e-3, 16: 1e-3, 8: 5e-3, 4: 0.05}
Errors = Iterator[tuple[str, float, float, str]]
OTHER_QUERY = "when does a pear ripen?"
# SmolLM2's own weights are far from uniform attention; random ones of this spread are, too.
_SPREAD = 0.04


class ModelTask(NamedTuple):
    """What one worker checks; `models` is an exported folder, or None for installed models."""

    model: str
    dtype: str
    device: str
    models: Path | None = None
    quick: bool = False

    @property
    def name(self) -> str:
        """As a row names it."""
        random_ones = ", random weights" if self._without_weights else ""
        return f"{self.model} {self.dtype} on {self.device}{random_ones}"

    @property
    def _without_weights(self) -> bool:
        if self.model != SMOLLM2 or self.models is None:
            return False
        return not (smollm2_folder(self.models) / "model.safetensors").is_file()

    def ranker(self, device: str, dtype: str) -> BlockRanker:
        """The model on `device`."""
        if self.model == SMOLLM2 and self.models:
            folder = str(smollm2_folder(self.models))
            settings = settings_for(SMOLLM2, folder, "decoder")
            with random_weights("cpu", _SPREAD) if self._without_weights else nullcontext():
                return BlockRanker(
                    load_backbone(folder, device=device, dtype=dtype, settings=settings)
                )
        return BlockRanker(load_backbone(self.model, device=device, dtype=dtype))

    def check(self) -> list[Finding]:
        """Scores with and without a cache, of a shuffled list, alone and in company."""
        passages = make_passages(*((5, 12) if self.quick else (12, 60)))
        reference = FP8 if self.dtype == FP8 else "float32"
        rankers = self.ranker("cpu", reference), self.ranker(self.device, self.dtype)
        findings = [
            Finding(f"{self.name}: {what}", error, bound, where)
            for check in (_plain, _cached)
            for what, error, bound, where in check(self, *rankers, passages)
        ]
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()
        return findings


def model_tasks(device: str, models: Path | None, quick: bool) -> list[ModelTask]:
    """All models in all dtypes; quick: the small ones in two."""
    names = (MINI, MINILM) if quick else MODELS
    dtypes = ("float32", "bfloat16") if quick else ("float32", "float16", "bfloat16")
    return [ModelTask(name, dtype, device, models, quick) for name in names for dtype in dtypes]


def fp8_model_tasks(device: str, models: Path | None) -> list[ModelTask]:
    """The shipped decoder in fp8, which the CPU emulates."""
    return [ModelTask(SMOLLM2, FP8, device, models)]


def _plain(
    task: ModelTask, reference: BlockRanker, ranker: BlockRanker, passages: list[str]
) -> Errors:
    wanted = reference.scores(QUERY, passages)
    bound = BOUNDS[task.dtype]
    found = ranker.scores(QUERY, passages)
    yield "scores against the CPU", *_difference(found, wanted, wanted, bound)
    order = list(range(len(passages)))
    random.Random(0).shuffle(order)
    shuffled = ranker.scores(QUERY, [passages[i] for i in order])
    back = [shuffled[order.index(i)] for i in range(len(order))]
    yield "a shuffled list", *_difference(back, found, wanted, bound)
    lists = [passages[:2], passages, make_passages(7, 9, seed=1)]
    company = ranker.scores_batch([OTHER_QUERY, QUERY, OTHER_QUERY], lists)[1]
    yield "a list in company", *_difference(company, found, wanted, bound)


def _cached(
    task: ModelTask, reference: BlockRanker, ranker: BlockRanker, passages: list[str]
) -> Errors:
    reference, ranker = (_to_cache(one) for one in (reference, ranker))
    for bits in CACHE_BOUNDS if task.dtype == "float32" else (16,):
        # In 16 bits halves are kept as they are: what is lost was lost before.
        own = bits if task.dtype == "float32" else 32
        wanted = _from_cache(reference, passages, own)
        found = _from_cache(ranker, passages, bits)
        bound = CACHE_BOUNDS[bits] if task.dtype == "float32" else BOUNDS[task.dtype]
        yield f"cache of {bits} bits against the CPU", *_difference(found, wanted, wanted, bound)


def _to_cache(ranker: BlockRanker) -> BlockRanker:
    """The same, with the query taken out of an instruction, where it stands there."""
    backbone = copy(ranker.backbone)
    backbone.settings = replace(backbone.settings, query_in_instruction=False)
    return BlockRanker(backbone)


def _from_cache(ranker: BlockRanker, passages: list[str], bits: int) -> list[float]:
    cache: Any = ranker.cache(passages, bits)
    scores: list[float] = cache.scores(QUERY, cache.ids)
    return scores


def _difference(
    found: list[float], wanted: list[float], of: list[float], bound: float
) -> tuple[float, float, str]:
    """The largest difference as a share of the deviation of `of`, the bound, and it as it is."""
    a, b, c = (torch.tensor(scores, dtype=torch.float64) for scores in (found, wanted, of))
    largest = (a - b).abs().max().item()
    deviation = c.std().item()
    return largest / deviation, bound, f"{largest:.3g} of scores that deviate by {deviation:.3g}"
