"""The model of a run, as it is before the first step.

Enters: `TrainingSettings`. Leaves: a backbone in fp32, without dropout, with adapters if wanted.
"""

import torch

from configs.models import find_model
from rerank.backbones.loading import load_backbone
from rerank.backbones.protocol import Backbone
from rerank.settings.decoder import DecoderSettings
from rerank.settings.reading import read_ranker_settings, settings_for
from rerank.training.language_model import LanguageModel
from rerank.training.lora import add_adapters
from rerank.training.settings import TrainingSettings


def load_untrained(
    settings: TrainingSettings, device: torch.device
) -> tuple[Backbone, LanguageModel | None]:
    """The backbone that `settings` train in fp32, and the language model around it if that counts.

    Raises `ValueError` for a model that can't be found, or that the loss or `in_batch` rule out.
    """
    ranker = read_ranker_settings(settings.ranker) if settings.ranker else None
    if settings.loss.language_model:
        ranker = ranker or settings_for(settings.model, find_model(settings.model), "decoder")
        if not (isinstance(ranker, DecoderSettings) and ranker.query_attends):
            raise ValueError("a language_model loss needs a decoder with query_attends: true")
        language_model = LanguageModel.load(settings.model, ranker, device)
        return language_model.backbone, language_model
    backbone = load_backbone(settings.model, device=device, dtype=torch.float32, settings=ranker)
    if settings.in_batch and (
        backbone.settings.query_attends or backbone.settings.passages_see_query
    ):
        raise ValueError(
            "in_batch lets every query score the passages of all: it needs query_attends: false "
            "and passages that don't see the query"
        )
    return backbone, None


def prepare_model(backbone: Backbone, settings: TrainingSettings) -> None:
    """No dropout (block attention has none), adapters and gradient checkpointing as asked for."""
    model = backbone.model
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    if settings.lora:
        add_adapters(model, settings.lora, settings.seed)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
