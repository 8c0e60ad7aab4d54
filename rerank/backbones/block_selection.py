"""A pass that goes on with some of its passages: from a layer on the query block attends to those.

Enters: packed prompts, and what chooses passages by the attention of one layer's signals. Leaves:
the rows of the chosen ones alone, run through that layer and those above it.

Up to the layer every passage was read. A passage block attends to no other passage, so the others
can stop there: their rows are cut out of the packed row, and the layers above run without them. For
the query block it is block selection as in Landmark Attention (arXiv 2305.16300), where what is not
selected costs nothing any more, not even its feed-forward layers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from kernels import BlockLayout
from kernels.host import to_device
from rerank.backbones.block_interface import (
    BlockContext,
    LayerKeys,
    ScoringLayerReached,
    TakingContext,
    no_interface,
)
from rerank.prompt.packing import PackedPrompts

# The places of the passages that each prompt goes on with, from its signals' attention.
Choose = Callable[[LayerKeys], Sequence[Sequence[int]]]


@dataclass
class SelectingContext(BlockContext):
    """A pass over `prompts` that at `layer` drops the passages that `choose` does not name.

    `prompts` then are those that are left, and `rows` int64 their tokens among the `tokens` of the
    start; None where nothing was dropped.
    """

    prompts: PackedPrompts = field(kw_only=True)
    layer: int = field(kw_only=True)
    choose: Choose = field(kw_only=True)
    tokens: int = field(init=False)
    rows: torch.Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.tokens = self.layout.num_tokens

    def select(self, keys: LayerKeys) -> None:
        """Go on with what `choose` says of the `keys` of `layer`."""
        chosen = self.choose(keys)
        if [len(places) for places in chosen] == list(self.prompts.passage_counts):
            return
        self.prompts, self.rows = only(self.prompts, chosen)
        self.layout, self.signal = self.prompts.layout, self.prompts.signal
        # Layers below that score do so over what is left.
        self.found = {n: kept._replace(k=kept.k[self.rows]) for n, kept in self.found.items()}


@contextmanager
def selecting(model: Any, context: SelectingContext) -> Iterator[None]:
    """Let the layers of `model` heed `context` in a pass that has it; others are not touched.

    Raises `ValueError` for a model that calls its layers something else.
    """
    layers = getattr(model, "layers", None)
    if layers is None:
        raise ValueError(f"{type(model).__name__} has no `layers` to stop passages at: no coverage")
    hooks = [
        layer.register_forward_pre_hook(partial(_before, context, number), with_kwargs=True)
        for number, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def only(
    prompts: PackedPrompts, chosen: Sequence[Sequence[int]]
) -> tuple[PackedPrompts, torch.Tensor]:
    """`prompts` with the passages `chosen` of each alone, and their rows int64 in `prompts`.

    Tokens keep their positions. What was packed behind the prompts (padding) stays.
    """
    behind = [range(len(request.passages)) for request in prompts.layout.requests[len(chosen) :]]
    requests, rows = [], []
    for spans, request, places in zip(
        prompts.layout.spans, prompts.layout.requests, [*chosen, *behind], strict=True
    ):
        order = sorted(places)
        blocks = [spans.instruction, *(spans.passages[place] for place in order), spans.query]
        rows += [torch.arange(*block) for block in blocks]
        requests.append(request._replace(passages=[request.passages[place] for place in order]))
    kept = torch.cat(rows)
    where = to_device(kept, prompts.input_ids.device)
    layout = BlockLayout.build(requests, prompts.layout.device)
    left = replace(
        prompts,
        layout=layout,
        passages=layout,
        passage_counts=tuple(map(len, chosen)),
        input_ids=prompts.input_ids[where],
        positions=prompts.positions[where],
        signal=torch.searchsorted(where, prompts.signal),
        key_mask=prompts.key_mask[where],
        words=prompts.words[kept],
    )
    return left, where


def _before(
    context: SelectingContext,
    number: int,
    layer: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """What the layer `number` is called with: the rows that are left, at `context.layer` chosen."""
    if kwargs.get("block_context") is not context:
        return None
    if number == context.layer:
        context.select(_taken(layer, args, kwargs, context))
    if context.rows is None:
        return None
    # Above that layer hidden states have no more rows than these; rotations, which are the whole
    # model's, still have all.
    left = partial(_rows_left, rows=context.rows, tokens=context.tokens)
    return tuple(map(left, args)), {name: left(value) for name, value in kwargs.items()}


def _rows_left(value: Any, *, rows: torch.Tensor, tokens: int) -> Any:
    """`rows` of what holds all `tokens`, [1, tokens, ...]; also in pairs (cosines and sines)."""
    if isinstance(value, tuple):
        return tuple(_rows_left(part, rows=rows, tokens=tokens) for part in value)
    if isinstance(value, torch.Tensor) and value.dim() > 1 and value.shape[1] == tokens:
        return value[:, rows]
    return value


def _taken(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], context: SelectingContext
) -> LayerKeys:
    """What the attention of `layer` would score with: its norm and projections are computed."""
    taken = TakingContext()
    try:
        layer.forward(*args, **{**kwargs, "block_context": taken})
    except ScoringLayerReached:
        assert context.signal is not None
        return LayerKeys(taken.q[context.signal], taken.k, taken.scale)
    raise ValueError(no_interface(layer))
