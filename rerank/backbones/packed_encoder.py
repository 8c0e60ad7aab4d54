"""The forward pass of a BERT on a CPU: blocks or tiles of rows a thread, weights laid out once.

Enters: an encoder and a packed row. Leaves: its last hidden states, or None where the encoder has
to run as it is: in training, in another dtype, on a GPU, of another shape. Where no block reads
another, blocks go through all layers a few at a time; else, in bf16, rows through one layer.

    PackedEncoder().states(model, input_ids, positions, context)  # [T, d]
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from kernels import SteadyLinear
from kernels.encoder_blocks import are_apart, encoder_blocks
from kernels.encoder_rows import EncoderLayer, encoder_rows, project
from kernels.packed_linear import can_pack, row_linear
from rerank.backbones.block_interface import BlockContext


class PackedEncoder:
    """A model's packed weights, made at first use and again when the model's own have changed."""

    def __init__(self) -> None:
        self._versions: list[tuple[int, int]] = []
        self._weights: list[torch.Tensor] = []
        self._layers: list[EncoderLayer] = []

    def states(
        self, model: Any, input_ids: torch.Tensor, positions: torch.Tensor, context: BlockContext
    ) -> torch.Tensor | None:
        """The last hidden states [T, d] of `model` for tokens int64 [T] at `positions` int64 [T].

        None where gradients or autocast are on, or `model` is not a plain BERT on a CPU, in fp32
        whose blocks are apart or in bf16 for which the CPU has units.
        """
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not _is_plain(model):
            return None
        # A context of another kind lets blocks read others by a way of its own.
        apart = type(context) is BlockContext and are_apart(context.layout)
        if not apart and not can_pack(model.dtype):
            return None
        layers = self._pack(model)
        if apart:
            return _apart(model, layers, input_ids, positions, context)
        (states,) = model.embeddings(input_ids=input_ids[None], position_ids=positions[None])
        width = states.shape[-1]
        qkv = project(states, layers[0].inward, 3 * width)
        followers = [*(layer.inward for layer in layers[1:]), None]
        for number, (module, layer, following) in enumerate(
            zip(model.encoder.layer, layers, followers, strict=True)
        ):
            attention = module.attention.self
            size = attention.attention_head_size
            q, k, v = qkv.view(len(qkv), 3, -1, size).unbind(1)
            context.layers += 1
            attended = context.attend(number, q, k, v, attention.scaling).reshape(-1, width)
            encoder_rows(attended, states, layer, following, qkv)
        return states

    def _pack(self, model: Any) -> list[EncoderLayer]:
        weights = [x for layer in model.encoder.layer for x in _tensors(layer)]
        versions = [(x.data_ptr(), 0 if x.is_inference() else x._version) for x in weights]
        if versions != self._versions:
            self._layers = [_packed(layer) for layer in model.encoder.layer]
            # Held, so that no other tensor comes to lie at the same address.
            self._weights = [x.detach() for x in weights]
            self._versions = versions
        return self._layers


def _apart(
    model: Any,
    layers: list[EncoderLayer],
    input_ids: torch.Tensor,
    positions: torch.Tensor,
    context: BlockContext,
) -> torch.Tensor:
    def embed(tokens: torch.Tensor) -> torch.Tensor:
        ids, places = input_ids[tokens][None], positions[tokens][None]
        states: torch.Tensor = model.embeddings(input_ids=ids, position_ids=places)[0]
        return states

    context.layers += len(layers)
    states = torch.empty(len(input_ids), model.config.hidden_size, dtype=model.dtype)
    attention = model.encoder.layer[0].attention.self
    heads, scale = attention.num_attention_heads, attention.scaling
    encoder_blocks(embed, layers, context.layout, states, heads=heads, scale=scale)
    return states


def _is_plain(model: Any) -> bool:
    """Whether the layers of `model` are what `encoder_rows` computes, in plain linear layers."""
    from transformers.models.bert.modeling_bert import BertModel

    if type(model) is not BertModel or model.training or model.device.type != "cpu":
        return False
    config = model.config
    known = model.dtype == torch.float32 or can_pack(model.dtype)
    if config.hidden_act != "gelu" or config.is_decoder or not known:
        return False
    linears = [linear for layer in model.encoder.layer for linear in _linears(layer)]
    # An adapter takes its layer's place, and a quantised layer has no such weight.
    return bool(linears) and all(
        type(x) in (nn.Linear, SteadyLinear) and x.bias is not None for x in linears
    )


def _linears(layer: Any) -> Iterator[Any]:
    attention = layer.attention.self
    yield from (attention.query, attention.key, attention.value)
    yield from (layer.attention.output.dense, layer.intermediate.dense, layer.output.dense)


def _tensors(layer: Any) -> Iterator[torch.Tensor]:
    for linear in _linears(layer):
        yield from (linear.weight, linear.bias)


def _packed(layer: Any) -> EncoderLayer:
    query, key, value, outward, up, down = _linears(layer)
    inward = [
        torch.cat([getattr(x, name) for x in (query, key, value)]) for name in ("weight", "bias")
    ]
    return EncoderLayer(
        row_linear(*inward),
        row_linear(outward.weight, outward.bias),
        layer.attention.output.LayerNorm,
        row_linear(up.weight, up.bias),
        row_linear(down.weight, down.bias),
        layer.output.LayerNorm,
    )
