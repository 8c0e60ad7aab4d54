"""What an encoder layer does between two attentions, a tile of rows at a time, each in one thread.

In: the attention's output and the states before it. Out, in place: the states after the layer, and
the next layer's queries, keys and values.

    encoder_rows(attended, states, layer, following, qkv)

    a = LayerNorm(attended @ O + states);  states = LayerNorm(GELU(a @ U) @ D + a)

Only attention looks at other rows. So all else of a layer, and the next one's projections, is one
task a tile: its numbers stay in a core's cache, and threads wait for each other once a layer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from kernels.packed_linear import TILE_ROWS, RowLinear, padded_rows
from kernels.threads import in_threads


class EncoderLayer(NamedTuple):
    """A layer of BERT's shape (post-norm, GELU) without its attention.

    `inward` [3d, d] makes q, k and v of the layer's input; `outward` follows its attention, then
    `up` and `down` are the feed-forward network, each pair with its norm.
    """

    inward: RowLinear
    outward: RowLinear
    attention_norm: nn.LayerNorm
    up: RowLinear
    down: RowLinear
    norm: nn.LayerNorm


def project(states: torch.Tensor, linear: RowLinear, width: int) -> torch.Tensor:
    """`linear` of states [T, d] in tiles: [T, width]."""
    result = states.new_empty(len(states), width)

    def fill(start: int) -> None:
        result[start : start + TILE_ROWS] = linear(states[start : start + TILE_ROWS])

    for _ in in_threads(fill, range(0, len(states), TILE_ROWS)):
        pass
    return result


def after_attention(
    attended: torch.Tensor, states: torch.Tensor, layer: EncoderLayer
) -> torch.Tensor:
    """The states [R, d] after `layer` of those before it, whose attention made `attended` [R, d].

    All in the thread that calls it.
    """
    middle = layer.attention_norm(layer.outward(attended, plus=states))
    after: torch.Tensor = layer.norm(layer.down(layer.up(middle, gelu=True), plus=middle))
    return after


def encoder_rows(
    attended: torch.Tensor,
    states: torch.Tensor,
    layer: EncoderLayer,
    following: RowLinear | None = None,
    qkv: torch.Tensor | None = None,
) -> None:
    """Overwrite `states` [T, d] by those after `layer`, whose attention made `attended` [T, d].

    What `following`, the next layer's `inward`, makes of them is written into `qkv` [T, 3d]. Both
    are overwritten because fresh memory would cost as much as a product. A row's bits depend on no
    other row.
    """

    def fill(start: int) -> None:
        rows = slice(start, start + TILE_ROWS)
        before, part = states[rows], attended[rows]
        count = len(before)
        # Padded once here, no product has to.
        missing = padded_rows(count) - count
        if missing:
            before, part = (F.pad(x, (0, 0, 0, missing)) for x in (before, part))
        after = after_attention(part, before, layer)
        states[rows] = after[:count]
        if following is not None and qkv is not None:
            qkv[rows] = following(after)[:count]

    for _ in in_threads(fill, range(0, len(states), TILE_ROWS)):
        pass
