"""The layer where a forward pass ends: queries of signal tokens and keys of passages, no more.

Enters: a model that is cut off above its highest scoring layer. Leaves: the same model, whose last
layer keeps the modules that scores need and computes only the rows that count.

The attention is asked twice by its own code, so norms and rotations stay the model's: once with the
signal tokens' rows and once with the passages', each time with the projections that nobody needs
replaced. That wants separate projections; a model that fuses them (Phi-3, ModernBERT) computes all
rows of its last layer's queries, keys and values.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from rerank.backbones.block_interface import (
    BlockContext,
    LayerKeys,
    ScoringLayerReached,
    TakingContext,
)

_PROJECTIONS = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"))


def end_early(model: nn.Module, layer: int, read: Callable[[], list[torch.Tensor]]) -> bool:
    """Narrow the attention of `layer` and drop every module that `read` does not call.

    `read` runs the model on a sample and returns what scores are made of. Where that changes, the
    model's code is of another kind than this function knows, and it stays as it was. Returns
    whether the attention was narrowed.
    """
    wanted = read()
    attention = _attention_of(model, layer)
    narrow = attention is not None
    if attention is not None:
        before = attention.__class__, dict(attention._modules)
        _narrow(attention)
        if not _same(read, wanted):
            attention.__class__, attention._modules = before
            narrow = False
    _drop_uncalled(model, read)
    return narrow


def _attention_of(model: nn.Module, layer: int) -> Any:
    for module in model.modules():
        if getattr(module, "layer_idx", None) == layer and _projections(module):
            return module
    return None


def _projections(module: nn.Module) -> tuple[str, str, str] | None:
    """The names of the query, key and value projections."""
    return next((names for names in _PROJECTIONS if names[0] in module._modules), None)


def _same(read: Callable[[], list[torch.Tensor]], wanted: list[torch.Tensor]) -> bool:
    try:
        found = read()
    except (AttributeError, RuntimeError, TypeError, KeyError, IndexError):
        return False
    return all(
        torch.allclose(a, b, rtol=1e-2, atol=1e-2) for a, b in zip(found, wanted, strict=True)
    )


def _narrow(attention: Any) -> None:
    """Turn `attention` into one that ends the pass; the names of its parameters stay."""
    kind = type(attention)
    attention.__class__ = type(f"Narrow{kind.__name__}", (_Narrow, kind), {"whole": kind})
    names = _projections(attention)
    assert names is not None
    del attention._modules[names[2]]


class _Narrow(nn.Module):
    """The attention of the layer where the pass ends; `whole` is the class it was."""

    whole: type[nn.Module]
    layer_idx: int

    def forward(self, *args: Any, block_context: BlockContext, **kwargs: Any) -> None:
        """Put queries and keys into `block_context` and end the pass."""
        names = _projections(self)
        assert names is not None
        query, key, value = names
        rows = block_context.layout.passage_tokens
        signal = rows[:0] if block_context.signal is None else block_context.signal
        none = _OneHead(self.head_size)
        q = self._asked({key: none, value: none}, signal, args, kwargs)
        k = self._asked({query: none, value: none}, rows, args, kwargs)
        whole = k.k.new_zeros(block_context.layout.num_tokens, *k.k.shape[1:])
        keys = whole.index_copy(0, rows, k.k)
        block_context.layers += 1
        keys = block_context.keys(self.layer_idx, keys, keys)
        block_context.found[self.layer_idx] = LayerKeys(q.q, keys, q.scale)
        raise ScoringLayerReached

    @property
    def head_size(self) -> int:
        """D."""
        size: Any = getattr(self, "head_dim", None) or self.attention_head_size
        return int(size)

    def _asked(
        self, instead: dict[str, nn.Module], rows: torch.Tensor, args: Any, kwargs: dict[str, Any]
    ) -> TakingContext:
        """What the attention hands on for `rows` alone, with some projections replaced."""
        # Made anew for every call: an adapter may have taken a projection's place since.
        twin: Any = copy.copy(self)
        twin.__class__ = self.whole
        twin._modules = {**self._modules, **instead}
        taken = TakingContext()
        tokens = len(rows)
        chosen = [_rows(argument, rows) for argument in args]
        named = {name: _rows(value, rows) for name, value in kwargs.items()}
        try:
            twin(*chosen, block_context=taken, **named)
        except ScoringLayerReached:
            assert tokens == len(taken.q)
            return taken
        raise AssertionError("the attention interface was not called")


class _OneHead(nn.Module):
    """Stands for a projection nobody needs: one head of zeros."""

    def __init__(self, head_size: int) -> None:
        super().__init__()
        self.head_size = head_size

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Zeros [..., D]."""
        return hidden.new_zeros(*hidden.shape[:-1], self.head_size)


def _rows(value: Any, rows: torch.Tensor) -> Any:
    """`value` for some tokens: tensors [1, T, ...], also in pairs (cosines and sines)."""
    if isinstance(value, tuple):
        return tuple(_rows(part, rows) for part in value)
    return value[:, rows] if isinstance(value, torch.Tensor) and value.dim() > 1 else value


def _drop_uncalled(model: nn.Module, read: Callable[[], list[torch.Tensor]]) -> None:
    """Remove the modules with parameters of which `read` calls nothing."""
    called: set[int] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: called.add(id(module)))
        for module in model.modules()
    ]
    wanted = read()
    for hook in hooks:
        hook.remove()
    dropped = list(_uncalled(model, called))
    for parent, name, _ in dropped:
        del parent._modules[name]
    if not _same(read, wanted):
        for parent, name, child in dropped:
            parent._modules[name] = child


def _uncalled(parent: nn.Module, called: set[int]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for name, child in parent.named_children():
        if any(id(module) in called for module in child.modules()):
            yield from _uncalled(child, called)
        elif next(child.parameters(), None) is not None:
            yield parent, name, child
