"""Short rows are read by one thread: the same bits, and plain calls where that would be wrong."""

import pytest
import torch
from rerank_cases import PASSAGES, QUERY

from rerank.backbones import short_row
from rerank.prompt.candidates import as_candidates
from rerank.prompt.packing import pack, tokenize
from rerank.prompt.template import fill


@pytest.fixture(params=["minilm", "smollm2"])
def backbone(request):
    return request.getfixturevalue(f"{request.param}_ranker").backbone


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _prompts(backbone, count):
    texts = fill(backbone.settings, QUERY, as_candidates(PASSAGES[:count]))
    return pack(
        tokenize(backbone.tokenizer, backbone.settings, [texts]),
        backbone.settings,
        pad_id=backbone.pad_id,
        query_position=backbone.query_position,
        device=backbone.device,
    )


@torch.inference_mode()
def test_the_bits_are_those_of_all_threads(backbone, two_threads, monkeypatch):
    prompts = _prompts(backbone, 2)
    assert len(prompts.input_ids) <= short_row._SHORT
    asked, plain = [], backbone._read

    def read(prompts):
        asked.append(torch.get_num_threads())
        return plain(prompts)

    monkeypatch.setattr(backbone, "_read", read)
    short = backbone.read(prompts)
    monkeypatch.setattr(short_row, "_SHORT", 0)
    long = backbone.read(prompts)
    assert asked == [1, 2]
    for head, other in zip(short.heads, long.heads, strict=True):
        assert torch.equal(head.q, other.q)
        assert torch.equal(head.k, other.k)


def test_gradients_and_autocast_stay_in_their_thread(backbone, two_threads, monkeypatch):
    prompts = _prompts(backbone, 1)
    asked, plain = [], backbone._read

    def read(prompts):
        asked.append(torch.get_num_threads())
        return plain(prompts)

    monkeypatch.setattr(backbone, "_read", read)
    assert backbone.read(prompts).heads[0].k.requires_grad
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        backbone.read(prompts)
    assert asked == [2, 2]
