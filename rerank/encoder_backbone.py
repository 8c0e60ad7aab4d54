"""Encoders of the BERT family: blocks are bidirectional, positions are learned and few.

Enters: packed prompts. Leaves: the normalised last hidden states, as one head's queries and keys
with identity projections: a soft late interaction, where training starts from.
"""

from typing import Any

import torch
from torch.nn import functional as F

from rerank.backbone import SignalsAndKeys
from rerank.block_interface import BlockContext, register
from rerank.packing import PackedPrompts
from rerank.settings import RankerSettings


class EncoderBackbone:
    """A bidirectional model over packed prompts."""

    def __init__(self, model: Any, tokenizer: Any, settings: RankerSettings) -> None:
        self.settings = settings
        self.tokenizer = tokenizer
        self.model = model
        self.device = model.device
        self.pad_id = tokenizer.pad_token_id or 0
        # A query that is read alone starts where a text of its own starts.
        self.query_position = settings.query_position if settings.query_attends else None

    @classmethod
    def load(
        cls,
        folder: str,
        config: Any,
        settings: RankerSettings,
        device: torch.device,
        dtype: torch.dtype | str,
    ) -> "EncoderBackbone":
        """Load weights and tokenizer; raises `ValueError` where the settings ask for too much."""
        from transformers import AutoModel, AutoTokenizer

        longest = max(settings.max_passage_tokens, settings.max_query_tokens)
        if longest > config.max_position_embeddings:
            raise ValueError(
                f"it has {config.max_position_embeddings} positions, its settings ask for {longest}"
            )
        model = AutoModel.from_pretrained(
            folder,
            attn_implementation=register(),
            dtype=dtype,
            use_safetensors=True,
            **({"add_pooling_layer": False} if config.model_type == "bert" else {}),
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(model.to(device).eval(), tokenizer, settings)

    def signals_and_keys(self, prompts: PackedPrompts) -> SignalsAndKeys:
        """One head of width d: the normalised hidden states, logits divided by the temperature."""
        output = self.model(
            input_ids=prompts.input_ids[None],
            position_ids=prompts.positions[None],
            block_context=BlockContext(prompts.layout, causal=False),
        )
        hidden = F.normalize(output.last_hidden_state[0].float(), dim=-1)[:, None]
        return SignalsAndKeys(hidden[prompts.signal], hidden, 1 / self.settings.temperature)
