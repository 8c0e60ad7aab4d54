"""Causal language models (Llama, Mistral, Qwen2, Qwen3): causal blocks, scored at layer l*.

Enters: packed prompts. Leaves: q of the signal tokens and k of all tokens at the scoring layer,
with rotary positions applied. Layers above it are neither loaded nor run.
"""

from typing import Any

import torch

from rerank.backbone import SignalsAndKeys
from rerank.block_interface import BlockContext, ScoringLayerReached, no_interface, register
from rerank.packing import PackedPrompts
from rerank.settings import RankerSettings


class DecoderBackbone:
    """A causal model over packed prompts, cut off at its scoring layer."""

    def __init__(self, model: Any, tokenizer: Any, settings: RankerSettings, layer: int) -> None:
        self.settings = settings
        self.tokenizer = tokenizer
        self.model = model
        self.layer = layer
        self.device = model.device
        self.pad_id = tokenizer.pad_token_id or tokenizer.eos_token_id or 0
        limit = getattr(model.config, "max_position_embeddings", None)
        self.query_position = _query_position(settings, limit)

    @classmethod
    def load(
        cls,
        folder: str,
        config: Any,
        settings: RankerSettings,
        device: torch.device,
        dtype: torch.dtype | str,
    ) -> "DecoderBackbone":
        """Load the layers up to the scoring one; raises `ValueError` when there is none such."""
        from transformers import AutoModel, AutoTokenizer

        layers = config.num_hidden_layers
        layer = int(settings.layer_share * layers) if settings.layer is None else settings.layer
        if not 0 <= layer < layers:
            raise ValueError(
                f"its settings score at layer {layer}, it has layers 0 to {layers - 1}"
            )
        model = AutoModel.from_pretrained(
            folder,
            attn_implementation=register(),
            dtype=dtype,
            use_safetensors=True,
            num_hidden_layers=layer + 1,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(model.to(device).eval(), tokenizer, settings, layer)

    def signals_and_keys(self, prompts: PackedPrompts) -> SignalsAndKeys:
        """q [S, Hq, D] and k [T, Hkv, D] at the scoring layer.

        Raises `ValueError` when the model's attention does not go through the interface.
        """
        context = BlockContext(prompts.layout, causal=True, scoring_layer=self.layer)
        try:
            self.model(
                input_ids=prompts.input_ids[None],
                position_ids=prompts.positions[None],
                use_cache=False,
                block_context=context,
            )
        except ScoringLayerReached:
            assert context.q is not None
            assert context.k is not None
            return SignalsAndKeys(context.q[prompts.signal], context.k, context.scale)
        raise ValueError(no_interface(self.model))


def _query_position(settings: RankerSettings, limit: int | None) -> int | None:
    """Where the query block starts: far from the passages, but inside the model's positions."""
    if settings.query_position is None or limit is None:
        return settings.query_position
    return max(0, min(settings.query_position, limit - settings.max_query_tokens))
