"""How large the tiles of the Triton kernels are: the preferred ones, or the next that fit the chip.

In: the head size, the dtype, the query heads of a key head, and the bytes of shared memory that a
block may use. Out: a `Tile`, or None where none fits. Nothing here knows Triton or a device.

    forward_tile(128, torch.bfloat16, group=4, shared=232_448)  # Tile(128, 32, 128, 4, 4)

What a kernel keeps in shared memory are the operands of its matrix products: those it holds all
along, and `num_stages` copies of those it streams through. `tests/kernels/test_triton_compiles.py`
holds what the compiler asks for against these sums and against the chips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import torch

# Rows and keys of the smallest tile that the matrix instructions take.
_SMALLEST = 16
# A head up to this size is one product; a wider one is walked through where that is possible.
_WHOLE_HEAD = 128


class Tile(NamedTuple):
    """BLOCK_M rows (tokens times grouped query heads) by BLOCK_N keys, BLOCK_D numbers at once."""

    BLOCK_M: int
    BLOCK_N: int
    BLOCK_D: int
    num_warps: int
    num_stages: int

    @property
    def sizes(self) -> dict[str, int]:
        """The kernels' compile-time constants."""
        return {"BLOCK_M": self.BLOCK_M, "BLOCK_N": self.BLOCK_N, "BLOCK_D": self.BLOCK_D}


def power_of_two(least: int) -> int:
    """The smallest power of two that is at least `least`."""
    return 1 << max(least - 1, 0).bit_length()


@lru_cache
def forward_tile(D: int, dtype: torch.dtype, group: int, shared: int) -> Tile | None:
    """Block attention: queries are held; keys and values stream.

    In 16 bits and for heads of 32 and 128 the tiles are the fastest seen on an H100 for blocks of
    100 tokens. They do not follow the blocks' lengths: a row's bits would change with its company.
    """
    if dtype.itemsize == 4:
        preferred = Tile(64, 32, _padded(D), 4, 2)
    elif D <= _WHOLE_HEAD:
        # Grouped heads fill a tile with fewer tokens; blocks of about 100 keys waste little of 32.
        preferred = Tile(64 if group == 1 else 128, 32, _padded(D), 4, 4)
    else:
        preferred = Tile(64, 64, _padded(D), 8, 2)
    return _first_that_fits(preferred, group, dtype, shared, attention_bytes)


@lru_cache
def backward_tile(D: int, dtype: torch.dtype, group: int, shared: int) -> Tile | None:
    """Its two backward kernels: two operands are held, two stream, of rows and keys in turn."""
    narrow = dtype.itemsize < 4 and D <= _WHOLE_HEAD
    preferred = Tile(64, 64, _padded(D), 4, 2) if narrow else Tile(32, 32, _padded(D), 4, 1)
    return _first_that_fits(preferred, group, dtype, shared, backward_bytes)


@lru_cache
def cached_tile(D: int, dtype: torch.dtype, group: int, rows: int, shared: int) -> Tile | None:
    """Cached attention with up to `rows` rows a request: as `forward_tile`, keys in any bits."""
    M = min(128, max(_SMALLEST, power_of_two(rows)))
    preferred = Tile(M, 64, _padded(D), 4, 3)
    return _first_that_fits(preferred, group, dtype, shared, attention_bytes)


@lru_cache
def score_tile(D: int, dtype: torch.dtype, group: int, rows: int, shared: int) -> Tile | None:
    """Block scores with up to `rows` rows a request.

    A wide head is walked through in pieces of BLOCK_D, so shared memory does not grow with it.
    """
    preferred = _score_tile(D, dtype, rows)
    return _first_that_fits(
        preferred, group, dtype, shared, partial(score_bytes, pieces=D > preferred.BLOCK_D)
    )


@lru_cache
def score_backward_tile(
    D: int, dtype: torch.dtype, group: int, rows: int, shared: int
) -> Tile | None:
    """The gradients of block scores: as `score_tile`, a program for each piece of a wide head."""
    preferred = _score_tile(D, dtype, rows)
    return _first_that_fits(
        preferred, group, dtype, shared, partial(score_backward_bytes, pieces=D > preferred.BLOCK_D)
    )


def attention_fits(D: int, dtype: torch.dtype, group: int, backward: bool, shared: int) -> bool:
    """Whether block attention has tiles, with `backward` for its gradients too."""
    tiles = [forward_tile(D, dtype, group, shared)]
    if backward:
        tiles.append(backward_tile(D, dtype, group, shared))
    return None not in tiles


def cached_fits(D: int, dtype: torch.dtype, group: int, shared: int) -> bool:
    """Whether cached attention has a tile, for queries of any length."""
    return cached_tile(D, dtype, group, 1, shared) is not None


def score_fits(D: int, dtype: torch.dtype, group: int, shared: int) -> bool:
    """Whether block scores and their gradients have tiles, for any number of signal tokens."""
    tiles = (score_tile, score_backward_tile)
    return all(tile(D, dtype, group, 1, shared) is not None for tile in tiles)


def _score_tile(D: int, dtype: torch.dtype, rows: int) -> Tile:
    if D <= _WHOLE_HEAD:
        piece = _padded(D)
    else:
        piece = 128 if dtype.itemsize < 4 and D % 128 == 0 else 64
    return Tile(min(64, max(_SMALLEST, power_of_two(rows))), 64, piece, 4, 3)


def _padded(D: int) -> int:
    """A whole head, padded to what a tile's side may be."""
    return max(_SMALLEST, power_of_two(D))


def attention_bytes(tile: Tile, size: int) -> int:
    """At most what the forward kernels ask for with numbers of `size` bytes."""
    M, N, D = tile[:3]
    walk = _walk(tile, M * D * size, 2 * N * D * size, _square(M, N) * size)
    return max(walk, _leaving(M * D, size))


def backward_bytes(tile: Tile, size: int) -> int:
    """At most what the backward kernels of attention ask for.

    Beside their operands deltas and log-sum-exps stream; one operand is also read transposed.
    """
    M, N, D = tile[:3]
    least, most = sorted((M * D, N * D))
    between = (2 * _square(M, N) + most) * size
    walk = _walk(tile, 2 * least * size, 2 * most * size + 8 * M, between)
    return max(walk, 2 * _leaving(N * D, size))


def score_bytes(tile: Tile, size: int, pieces: bool) -> int:
    """At most what the kernel of block scores asks for; in `pieces` its queries stream as well."""
    M, N, D = tile[:3]
    held, streamed = (0, M * D + N * D) if pieces else (M * D, N * D)
    return _walk(tile, held * size, streamed * size, _square(M, N) * size)


def score_backward_bytes(tile: Tile, size: int, pieces: bool) -> int:
    """At most what its backward kernel asks for: the keys' gradients leave from within the walk."""
    M, N, D = tile[:3]
    held, streamed = (M * D + N * D, M * D + N * D) if pieces else (M * D, N * D)
    between = 2 * _square(M, N) * size + _leaving(N * D, size)
    return _walk(tile, held * size, streamed * size, between)


def _square(M: int, N: int) -> int:
    """Numbers of a logit each, in rows that are padded against bank conflicts."""
    return M * (N + 4)


def _walk(tile: Tile, held: int, streamed: int, between: int) -> int:
    """Bytes of the operands that are held and of the copies of those that stream.

    Hopper's matrix instructions have `num_stages` copies, and what passes between two products
    stays in registers; those before it have one copy less, and that beside them.
    """
    before = max(1, tile.num_stages - 1) * streamed + between
    return held + max(tile.num_stages * streamed, before)


def _leaving(numbers: int, size: int) -> int:
    """Bytes in which results are laid out anew for memory, where matrix instructions made them."""
    return 4 * numbers if size < 4 else 0


def _first_that_fits(
    preferred: Tile, group: int, dtype: torch.dtype, shared: int, needed: Callable[[Tile, int], int]
) -> Tile | None:
    """The first of `_candidates` that fits; a row per query head of a key head is the least."""
    if dtype.itemsize > 4:
        return None  # no matrix instruction takes float64 here
    least = max(_SMALLEST, power_of_two(group))
    largest = preferred._replace(BLOCK_M=max(preferred.BLOCK_M, least))
    fits = (tile for tile in _candidates(largest, least) if needed(tile, dtype.itemsize) <= shared)
    return next(fits, None)


def _candidates(largest: Tile, least_rows: int) -> Iterator[Tile]:
    """From `largest` down: fewer stages, then the longer side halved; no stages come last."""
    for stages in (range(largest.num_stages, 1, -1), [1]):
        rows, keys = largest.BLOCK_M, largest.BLOCK_N
        while True:
            for num_stages in stages:
                yield largest._replace(BLOCK_M=rows, BLOCK_N=keys, num_stages=num_stages)
            if rows > max(keys, least_rows):
                rows //= 2
            elif keys > _SMALLEST:
                keys //= 2
            elif rows > least_rows:
                rows //= 2
            else:
                break
