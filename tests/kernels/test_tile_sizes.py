"""Which tiles the Triton kernels take, from numbers alone: no Triton, no device."""

import importlib.util
from itertools import product

import pytest
import torch

from kernels.dispatch import chosen_implementation
from kernels.tile_sizes import (
    Tile,
    attention_bytes,
    attention_fits,
    backward_bytes,
    backward_tile,
    cached_fits,
    cached_tile,
    forward_tile,
    score_backward_bytes,
    score_backward_tile,
    score_bytes,
    score_fits,
    score_tile,
)

A100, CONSUMER, H100 = 166_912, 101_376, 232_448
CHIPS = (A100, CONSUMER, H100)
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16


def test_the_preferred_tiles_where_everything_fits():
    """On an H100 no ordinary head is given less than it was tuned with."""
    for dtype in (BF16, FP16):
        assert forward_tile(32, dtype, 1, H100) == Tile(64, 32, 32, 4, 4)
        assert forward_tile(64, dtype, 3, H100) == Tile(128, 32, 64, 4, 4)
        assert forward_tile(128, dtype, 4, H100) == Tile(128, 32, 128, 4, 4)
        assert forward_tile(256, dtype, 4, H100) == Tile(64, 64, 256, 8, 2)
        assert backward_tile(128, dtype, 4, H100) == Tile(64, 64, 128, 4, 2)
        assert backward_tile(256, dtype, 4, H100) == Tile(32, 32, 256, 4, 1)
        assert cached_tile(128, dtype, 4, 80, H100) == Tile(128, 64, 128, 4, 3)
        assert score_tile(128, dtype, 4, 8, H100) == Tile(16, 64, 128, 4, 3)
    assert forward_tile(128, FP32, 4, H100) == Tile(64, 32, 128, 4, 2)
    assert backward_tile(128, FP32, 4, H100) == Tile(32, 32, 128, 4, 1)


SIZES = (1, 16, 32, 64, 80, 96, 128, 192, 256, 384, 512, 1024)


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
@pytest.mark.parametrize("shared", [*CHIPS, 65_536])
def test_a_tile_fits_and_holds_every_query_head_of_a_key_head(dtype, shared):
    for D, group in product(SIZES, (1, 3, 4, 71)):
        check_tiles(D, dtype, group, shared)


def check_tiles(D, dtype, group, shared):
    chosen = {
        attention_bytes: [
            forward_tile(D, dtype, group, shared),
            *(cached_tile(D, dtype, group, rows, shared) for rows in (group, 40 * group)),
        ],
        backward_bytes: [backward_tile(D, dtype, group, shared)],
        score_bytes: [score_tile(D, dtype, group, rows, shared) for rows in (group, 40 * group)],
        score_backward_bytes: [score_backward_tile(D, dtype, group, 40 * group, shared)],
    }
    for needed, tiles in chosen.items():
        for tile in tiles:
            if tile is None:  # a test below says where that may be
                continue
            pieces = (D > tile.BLOCK_D,) if needed in (score_bytes, score_backward_bytes) else ()
            assert needed(tile, dtype.itemsize, *pieces) <= shared
            assert group <= tile.BLOCK_M
            assert min(tile.BLOCK_M, tile.BLOCK_N) >= 16
            assert pieces or tile.BLOCK_D >= D


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("shared", CHIPS)
def test_every_head_up_to_256_has_tiles_and_every_scoring_head(dtype, shared):
    for D in (16, 32, 64, 80, 96, 128, 192, 256):
        assert attention_fits(D, dtype, 8, True, shared)
        assert cached_fits(D, dtype, 8, shared)
    for D in (384, 768, 1024, 4096):
        assert score_fits(D, dtype, 1, shared)
        assert score_fits(D, dtype, 71, shared)


def test_a_wide_scoring_head_is_read_in_pieces_that_divide_it():
    assert score_tile(384, FP32, 1, 40, H100).BLOCK_D == 64
    assert score_tile(384, BF16, 1, 40, H100).BLOCK_D == 128
    assert score_tile(192, BF16, 1, 40, H100).BLOCK_D == 64
    narrow, wide = (score_tile(D, FP32, 1, 40, CONSUMER) for D in (384, 4096))
    assert narrow == wide


def test_what_no_tile_fits_is_left_to_the_reference():
    """Attention of heads wider than 512, fp32 gradients beyond 256 on a consumer card, float64."""
    assert attention_fits(512, BF16, 8, True, CONSUMER)
    assert attention_fits(512, FP32, 8, False, CONSUMER)
    assert not attention_fits(512, FP32, 8, True, CONSUMER)
    assert not attention_fits(1024, FP32, 8, False, A100)
    for fits in (cached_fits, score_fits):
        assert not fits(64, torch.float64, 1, H100)
    assert not attention_fits(64, torch.float64, 1, False, H100)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_what_fits_decides_what_runs_on_a_gpu(monkeypatch):
    monkeypatch.setattr("kernels.dispatch.shared_memory", lambda _: CONSUMER)
    asked = []
    for answer, wanted in ((True, "triton"), (False, "reference")):
        fits = lambda shared, answer=answer: asked.append(shared) or answer  # noqa: E731
        assert chosen_implementation("cuda", None, fits) == wanted
        assert chosen_implementation("cuda", "triton", fits) == "triton"
        assert chosen_implementation("cpu", None, fits) == "cpu"
    assert asked == [CONSUMER, CONSUMER]
