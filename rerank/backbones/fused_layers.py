"""Transformers' own layers, with one pass over memory where theirs take several.

Enters: a loaded model. Leaves: the same model, whose norms, rotary positions and activations run
through `kernels.elementwise` on a GPU where no gradient is asked for, and as ever elsewhere.

    fuse_layers(model)  # how many modules were recognised

A module's class is replaced by one made of it, so names, parameters and `isinstance` stay. Only
classes whose arithmetic is known are recognised, by their full names: Llama, Mistral, Qwen2, Qwen3,
and BERT with the families that copy it. What an adapter or a quantised layer put in the place of a
projection is called as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from kernels import SteadyLinear, linear
from kernels.elementwise import (
    add_layer_norm,
    add_rms_norm,
    bias_gelu,
    rms_norm,
    rotary,
    swiglu,
)
from rerank.backbones import block_interface

_DECODERS = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
_ENCODERS = {"bert": "Bert", "roberta": "Roberta", "xlm_roberta": "XLMRoberta"}


def fuse_layers(model: nn.Module, implementation: str | None = None) -> int:
    """Let the modules of `model` that are recognised fuse what they can, in place; their number.

    `implementation` forces one of `kernels.dispatch`'s on every device; gradients, training and
    autocast take the plain path even then.
    """
    found = list(_recognised(model))
    classes: dict[tuple[type[nn.Module], type[_Fused]], type[nn.Module]] = {}
    for module, fused in found:
        kind = type(module)
        if (kind, fused) not in classes:
            # What is not fused is done as the class before does it.
            classes[kind, fused] = type(f"Fused{kind.__name__}", (fused, kind), {})
        module.__class__ = classes[kind, fused]
        module.implementation = implementation
    return len(found)


class _Fused(nn.Module):
    """Stands before the class that a module was."""

    implementation: str | None

    @classmethod
    def fits(cls, module: nn.Module) -> bool:
        """Whether a `module` of a class that is known is also put together as it is known."""
        return True

    def fuses(self, x: torch.Tensor) -> bool:
        """Whether what follows from `x` is computed in the fused way."""
        if torch.is_grad_enabled() or self.training or torch.is_autocast_enabled(x.device.type):
            return False
        return x.is_cuda or self.implementation is not None


class _RMSNorm(_Fused):
    weight: torch.Tensor
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
        """The normalised rows; with a `residual` its sum with the rows, and that normalised."""
        if self.fuses(hidden_states) and self.weight.dtype == hidden_states.dtype:
            norm = (self.weight, self.variance_epsilon)
            if residual is None:
                return rms_norm(hidden_states, *norm, implementation=self.implementation)
            return add_rms_norm(hidden_states, residual, *norm, implementation=self.implementation)
        if residual is None:
            return super().forward(hidden_states)
        total = residual + hidden_states
        return total, super().forward(total)


class _FeedForward(_Fused):
    gate_proj: Any
    up_proj: Any
    down_proj: Any

    @classmethod
    def fits(cls, module: Any) -> bool:
        return type(module.act_fn).__name__ in ("SiLU", "SiLUActivation")

    def forward(self, x: torch.Tensor) -> Any:
        """[..., d]."""
        if not self.fuses(x):
            return super().forward(x)
        gate, up = self.gate_proj(x), self.up_proj(x)
        return self.down_proj(swiglu(gate, up, implementation=self.implementation))


class _Attention(_Fused):
    config: Any
    head_dim: int
    scaling: float
    q_proj: Any
    k_proj: Any
    v_proj: Any
    o_proj: Any
    q_norm: Any
    k_norm: Any

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The attention of one packed row, through our interface; anything else as it was."""
        # By either name, as the version of transformers has it, a cache of earlier tokens.
        earlier = [kwargs.get(name) for name in ("cache", "past_key_values")]
        packed = (
            self.config._attn_implementation == block_interface.NAME and len(hidden_states) == 1
        )
        alike = position_embeddings[0].dtype == hidden_states.dtype
        if not (packed and alike and earlier == [None, None] and self.fuses(hidden_states)):
            return super().forward(
                hidden_states,
                position_embeddings=position_embeddings,
                attention_mask=attention_mask,
                **kwargs,
            )
        q, k, v = (
            project(hidden_states).view(hidden_states.shape[1], -1, self.head_dim)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        cos, sin = (turns[0] for turns in position_embeddings)
        q, k = rotary(q, k, cos, sin, implementation=self.implementation)
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        # Mistral's window stands in its configuration, Qwen's differs from layer to layer.
        window = getattr(self, "sliding_window", getattr(self.config, "sliding_window", None))
        options = kwargs | {"scaling": self.scaling, "sliding_window": window}
        attended, weights = block_interface.attention(self, q, k, v, attention_mask, **options)
        return self.o_proj(attended.reshape(*hidden_states.shape[:2], -1)), weights


class _DecoderLayer(_Fused):
    input_layernorm: Any
    self_attn: Any
    post_attention_layernorm: Any
    mlp: Any

    @classmethod
    def fits(cls, module: nn.Module) -> bool:
        # The layer where a pass ends may have lost what follows its attention.
        norm = module._modules.get("post_attention_layernorm")
        return norm is None or _KINDS.get(_name(norm)) is _RMSNorm

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The states after the layer."""
        if args or not self.fuses(hidden_states):
            return super().forward(hidden_states, *args, **kwargs)
        normed = self.input_layernorm(hidden_states)
        attended, _ = self.self_attn(hidden_states=normed, **kwargs)
        hidden_states, normed = self.post_attention_layernorm(attended, residual=hidden_states)
        return hidden_states + self.mlp(normed)


class _LayerNorm(_Fused):
    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    def forward(self, input: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
        """The normalised rows, or those of their sum with a `residual`."""
        if residual is None:
            return super().forward(input)
        if not (self.fuses(input) and self.weight.dtype == input.dtype == residual.dtype):
            return super().forward(input + residual)
        norm = (self.weight, self.bias, self.eps)
        return add_layer_norm(input, residual, *norm, implementation=self.implementation)


class _Residual(_Fused):
    dense: Any
    LayerNorm: Any

    @classmethod
    def fits(cls, module: Any) -> bool:
        norm = module.LayerNorm
        return type(norm) is nn.LayerNorm and norm.bias is not None

    def forward(self, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> Any:
        """The normalised sum of what came in and the product; dropout is training's."""
        if not self.fuses(hidden_states):
            return super().forward(hidden_states, input_tensor)
        return self.LayerNorm(self.dense(hidden_states), residual=input_tensor)


class _Intermediate(_Fused):
    dense: Any

    @classmethod
    def fits(cls, module: Any) -> bool:
        return getattr(module.intermediate_act_fn, "act", None) is nn.functional.gelu

    def forward(self, hidden_states: torch.Tensor) -> Any:
        """GELU of the product; a layer that is not plain keeps its bias to itself."""
        dense = self.dense
        plain = type(dense) in (nn.Linear, SteadyLinear) and dense.bias is not None
        if not (plain and self.fuses(hidden_states)):
            return super().forward(hidden_states)
        product = linear(hidden_states, dense.weight)
        return bias_gelu(product, dense.bias, implementation=self.implementation)


def _kinds(families: dict[str, str], parts: dict[str, type[_Fused]]) -> dict[str, type[_Fused]]:
    return {
        f"transformers.models.{family}.modeling_{family}.{prefix}{part}": fused
        for family, prefix in families.items()
        for part, fused in parts.items()
    }


_KINDS = _kinds(
    _DECODERS,
    {
        "RMSNorm": _RMSNorm,
        "MLP": _FeedForward,
        "Attention": _Attention,
        "DecoderLayer": _DecoderLayer,
    },
) | _kinds(_ENCODERS, {"SelfOutput": _Residual, "Output": _Residual, "Intermediate": _Intermediate})


def _recognised(model: nn.Module) -> Iterator[tuple[Any, type[_Fused]]]:
    for module in model.modules():
        fused = _KINDS.get(_name(module))
        if fused is not None and fused.fits(module):
            yield module, fused
            if fused is _Residual:
                yield module.LayerNorm, _LayerNorm


def _name(module: nn.Module) -> str:
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}"
