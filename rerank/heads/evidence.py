"""Every attention head as a ranker of its own: what head selection chooses from.

Enters: labelled examples, a backbone whose settings name many heads. Leaves: for each example, the
mass that each head gives each passage, for the query and for the content-free query.

    backbone, settings = load_every_head("smollm2")
    head_masses(backbone, example.query, example.passages)  # float64 [270, N]
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from configs.models import load_model
from rerank.backbones.decoder import DecoderBackbone
from rerank.backbones.loading import kind_of, load_backbone
from rerank.backbones.protocol import Backbone, packed_for
from rerank.examples.labelled import Example
from rerank.prompt.candidates import Candidate
from rerank.prompt.packing import tokenize
from rerank.prompt.template import fill
from rerank.scoring.scores import head_values
from rerank.settings.common import RankerSettings
from rerank.settings.decoder import DecoderSettings
from rerank.settings.reading import settings_for

Head = tuple[int, int]


class HeadEvidence(NamedTuple):
    """What H heads say of the N passages of one labelled query.

    `mass` and `content_free` are float64 [H, N], each head's masses sum to 1; `grades` int64 [N].
    """

    mass: np.ndarray
    content_free: np.ndarray
    grades: np.ndarray


def load_every_head(
    name: str,
    layers: range | None = None,
    *,
    settings: RankerSettings | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> tuple[DecoderBackbone, DecoderSettings]:
    """The decoder `name` with every head of `layers` (None: all) scoring, and its own settings.

    `settings` stand in for the model's own. The backbone's `settings.heads` are in the order of
    `head_masses`' rows. Raises `ValueError` for an encoder and for layers that it does not have.
    """
    config, own = load_model("reranker", name, lambda resolved: _config(name, resolved))
    base = settings or own
    if not isinstance(base, DecoderSettings):
        raise ValueError(f"the settings say {base.backbone}, and {name} is a decoder")
    chosen = layers or range(config.num_hidden_layers)
    if chosen.stop > config.num_hidden_layers:
        raise ValueError(
            f"layers {chosen.start}:{chosen.stop} were asked for, and {name} has layers 0 to "
            f"{config.num_hidden_layers - 1}"
        )
    every = replace(
        base,
        heads=tuple(
            (layer, head) for layer in chosen for head in range(config.num_attention_heads)
        ),
        head_weights=None,
        score="mass",
        calibration="none",
        probability=None,
    )
    backbone = load_backbone(name, device=device, dtype=dtype, settings=every)
    assert isinstance(backbone, DecoderBackbone)
    return backbone, base


def _config(name: str, resolved: str) -> tuple[Any, RankerSettings]:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(resolved, trust_remote_code=False)
    kind = kind_of(config)
    if kind != "decoder":
        raise ValueError("it is an encoder, and heads are selected in decoders")
    return config.get_text_config(), settings_for(name, resolved, kind)


@torch.inference_mode()
def head_masses(backbone: Backbone, query: str, passages: Sequence[Candidate]) -> np.ndarray:
    """float64 [H, N]: each head's mass of each passage, the mean over the signal tokens.

    Rows are the backbone's `settings.heads` by (layer, head). One forward pass serves all heads.
    """
    settings = backbone.settings
    texts = fill(settings, query, passages)
    prompts = packed_for(backbone, tokenize(backbone.tokenizer, settings, [texts]))
    found = [head_values(heads, prompts, settings) for heads in backbone.read(prompts).heads]
    return torch.cat([values.double().mean(1) for values in found]).cpu().numpy()


def read_evidence(backbone: Backbone, examples: Iterable[Example]) -> Iterator[HeadEvidence]:
    """The evidence of each example, in order: two passes an example."""
    for example in examples:
        yield HeadEvidence(
            mass=head_masses(backbone, example.query, example.passages),
            content_free=head_masses(
                backbone, backbone.settings.content_free_query, example.passages
            ),
            grades=np.array([example.relevant.get(p.id, 0) for p in example.passages]),
        )
