"""The language model's part of the loss: write the relevant passage's answer after the query block.

Enters: packed prompts whose query blocks end in answers. Leaves: what scores the passages, read on
the way at the scoring layers, and the cross-entropy of the answers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from configs.models import load_model
from rerank.backbones.block_interface import BlockContext, register
from rerank.backbones.decoder import DecoderBackbone
from rerank.backbones.loading import kind_of
from rerank.backbones.protocol import Readout
from rerank.prompt.packing import PackedPrompts
from rerank.settings.decoder import DecoderSettings


class LanguageModel:
    """A decoder at full depth: its head, and the backbone that shares its layers."""

    def __init__(self, causal: Any, tokenizer: Any, settings: DecoderSettings) -> None:
        self.backbone = DecoderBackbone(causal.base_model, tokenizer, settings)
        self.head: nn.Module = causal.get_output_embeddings()

    @classmethod
    def load(cls, name: str, settings: DecoderSettings, device: torch.device) -> "LanguageModel":
        """Load the whole model in fp32; raises `ValueError` when it is none that writes."""
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        def load(resolved: str) -> LanguageModel:
            config = AutoConfig.from_pretrained(resolved, trust_remote_code=False)
            if kind_of(config) != "decoder":
                raise ValueError("a language_model loss needs a decoder, and it is an encoder")
            causal: Any = AutoModelForCausalLM.from_pretrained(
                resolved,
                attn_implementation=register(),
                dtype=torch.float32,
                use_safetensors=True,
            )
            return cls(causal.to(device), AutoTokenizer.from_pretrained(resolved), settings)

        return load_model("language model", name, load)

    def read(
        self, prompts: PackedPrompts, answers: Sequence[range]
    ) -> tuple[Readout, torch.Tensor]:
        """The scoring heads, and the sum over prompts of their answers' mean cross-entropy.

        `answers` are token numbers; the token before each predicts it.
        """
        context = BlockContext(
            prompts.layout,
            causal=True,
            signal=prompts.signal,
            scoring_layers=frozenset(self.backbone.scoring),
        )
        hidden = self.backbone.model(
            input_ids=prompts.input_ids[None],
            position_ids=prompts.positions[None],
            use_cache=False,
            block_context=context,
        ).last_hidden_state[0]
        places = torch.tensor([place for answer in answers for place in answer])
        places = places.to(hidden.device)
        logits = self.head(hidden[places - 1]).float()
        losses = F.cross_entropy(logits, prompts.input_ids[places], reduction="none")
        parts = losses.split([len(answer) for answer in answers])
        loss = torch.stack([part.mean() for part in parts]).sum()
        return self.backbone.readout(context, prompts), loss
