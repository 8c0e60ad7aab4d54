"""Every shipped model scores on a GPU as it does on the CPU, with and without a cache.

Without a GPU the same comparison is made in Triton's interpreter: `test_triton_interpreter` runs
this file in a process of its own.
"""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from rerank_cases import PASSAGES, QUERY, scores
from triton_cases import DEVICE, GPU, INTERPRETED, needs_triton

from kernels import dispatch, missing_for_fp8
from kernels.dispatch import chosen_implementation
from rerank import BlockRanker
from rerank.backbones.loading import load_backbone

pytestmark = [
    pytest.mark.gpu,
    needs_triton,
]
MODELS = ("mini", "minilm", "smollm2")
IDS = ["0", "pear", "2", "rain", "marlowe"]
# Most that a score may differ by, as a share of the scores' standard deviation: fp32 adds up in
# another order; fp16 and bf16 have 11 and 8 bits (on a CPU they cost up to .003 and .04 here).
BOUNDS = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.15}
# Where states of another order of sums are rounded to few bits, some go to the next number.
CACHE_BOUNDS = {32: 1e-3, 16: 1e-3, 8: 5e-3, 4: 0.05}


@contextmanager
def triton_kernels():
    """What a GPU runs by itself, and the interpreter where it is told to."""
    with pytest.MonkeyPatch.context() as patch:
        if INTERPRETED:
            patch.setattr(
                dispatch,
                "chosen_implementation",
                lambda device, *_: chosen_implementation(device, "triton"),
            )
        yield


def load(name, device, dtype="float32", *, to_cache=False):
    """The model `name`; `to_cache` takes the query out of an instruction, where it stands there."""
    backbone = load_backbone(name, device=device, dtype=dtype)
    if to_cache:
        backbone.settings = replace(backbone.settings, query_in_instruction=False)
    return BlockRanker(backbone)


def check(found, wanted, bound):
    wanted = torch.tensor(wanted, dtype=torch.float64)
    difference = (torch.tensor(found, dtype=torch.float64) - wanted).abs().max()
    assert difference <= bound * wanted.std()


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_cpu_s(name, dtype):
    wanted = scores(load(name, "cpu"), QUERY, PASSAGES)
    with triton_kernels():
        ranker = load(name, DEVICE, dtype)
        check(scores(ranker, QUERY, PASSAGES), wanted, BOUNDS[dtype])
        # Two queries in one batch, the longer list in the other order.
        others = ["when does a pear ripen?", QUERY]
        batch = ranker.rerank_batch(others, [PASSAGES[:2], PASSAGES[::-1]])
        found = {result.original_rank: result.score for result in batch[1]}
        check([found[rank] for rank in range(len(PASSAGES), 0, -1)], wanted, BOUNDS[dtype])


@pytest.mark.parametrize("bits", list(CACHE_BOUNDS))
@pytest.mark.parametrize("name", MODELS)
def test_cached_scores_are_the_cpu_s(name, bits):
    wanted = load(name, "cpu", to_cache=True).cache(PASSAGES, bits).scores(QUERY, IDS)
    with triton_kernels():
        cache = load(name, DEVICE, to_cache=True).cache(PASSAGES, bits)
        check(cache.scores(QUERY, IDS), wanted, CACHE_BOUNDS[bits])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_cached_scores_of_half_precision(name, dtype):
    wanted = load(name, "cpu", to_cache=True).cache(PASSAGES, 32).scores(QUERY, IDS)
    with triton_kernels():
        cache = load(name, DEVICE, dtype, to_cache=True).cache(PASSAGES, 16)
        check(cache.scores(QUERY, IDS), wanted, BOUNDS[dtype])


@pytest.mark.skipif(
    not GPU or missing_for_fp8(torch.device("cuda")) is not None, reason="no GPU that has fp8"
)
def test_fp8_is_what_a_cpu_emulates():
    """Sums of another order round numbers the other way, by as much as fp8 does to scores."""
    wanted = scores(load("smollm2", "cpu", "fp8"), QUERY, PASSAGES)
    check(scores(load("smollm2", DEVICE, "fp8"), QUERY, PASSAGES), wanted, 1.0)


@pytest.mark.skipif(not GPU, reason="no CUDA device to choose by itself")
@pytest.mark.parametrize("name", MODELS)
def test_the_default_device_and_dtype_rank(name):
    """As a user calls it, in the dtype that the checkpoint has."""
    ranker = BlockRanker.from_pretrained(name)
    assert ranker.backbone.device.type == "cuda"
    check(scores(ranker, QUERY, PASSAGES), scores(load(name, "cpu"), QUERY, PASSAGES), 0.15)
