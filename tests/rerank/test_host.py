"""Between strings and scores a GPU's host waits once: for the scores."""

from contextlib import ExitStack

import pytest
import torch
from far_device import DEVICE, FarDevice
from rerank_cases import PASSAGES, QUERY, save_model

from kernels.host import to_device
from rerank import BlockRanker
from rerank.backbones.fused_layers import fuse_layers

KERNELS = ("kernels.block_attention", "kernels.block_score")
OTHER = "when does a pear ripen?"


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("qwen3"), "Qwen3", "smollm2"))


@pytest.mark.parametrize("name", ["mini", "qwen3"])
def test_the_host_waits_for_the_scores_alone(name, qwen3, one_thread):
    """Two queries in one call; for one it asked ten times, or with a decoder six, beside copies."""
    ranker = BlockRanker.from_pretrained(qwen3 if name == "qwen3" else name, device="cpu")
    asked = [QUERY, OTHER], [PASSAGES, PASSAGES[:2]]
    wanted = ranker.scores_batch(*asked)
    fuse_layers(ranker.backbone.model, "reference")
    with FarDevice() as far, ExitStack() as stack:
        for operation in KERNELS:
            stack.enter_context(far.kernels(operation))
        far.move(ranker.backbone)
        found = ranker.scores_batch(*asked)
    for got, want in zip(found, wanted, strict=True):
        assert got == pytest.approx(want, abs=1e-5)
    assert far.waits == {"copy to the host": 1}
    assert far.queued


@pytest.mark.parametrize(
    ("asks", "what"),
    [
        (lambda x: int(x.max()), "number"),
        (lambda x: bool((x > 1).all()), "number"),
        (lambda x: (x > 1).nonzero(), "nonzero"),
        (lambda x: x[x > 1], "index by truth values"),
        (lambda x: x[torch.tensor([2, 0])], "index by the host's tensor"),
        (lambda x: x[[2, 0]], "index by a list"),
        (lambda x: x.repeat_interleave(x), "repeat_interleave"),
        (lambda x: torch.bincount(x), "bincount"),
        (lambda x: x.tolist(), "copy to the host"),
        (lambda x: x.cpu(), "copy to the host"),
        (lambda x: torch.ones(3).to(x.device), "copy from ordinary memory"),
    ],
)
def test_what_waits_is_counted(asks, what):
    with torch.inference_mode(), FarDevice() as far:
        x = to_device(torch.tensor([0, 1, 2]), DEVICE)
        assert not far.waits
        asks(x)
    assert far.waits == {what: 1}


def test_what_does_not_wait_is_not():
    """And it computes what the CPU does."""
    with torch.inference_mode(), FarDevice() as far:
        x = to_device(torch.tensor([3, 1, 2]), DEVICE)
        y = (x[x.argsort()] + 2 * x[1:2]).double().contiguous()
        y[:1] = 7
        y += torch.zeros(3, device=DEVICE)
        assert y.device == DEVICE
        assert y.is_cuda
        assert not far.waits
        assert y.tolist() == [7, 4, 5]


def test_tensors_of_both_places_are_refused():
    with torch.inference_mode(), FarDevice():
        x = to_device(torch.tensor([0, 1, 2]), DEVICE)
        with pytest.raises(AssertionError, match="on the device and on the host"):
            x + torch.ones(3)
