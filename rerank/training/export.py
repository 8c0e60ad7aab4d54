"""Write a trained ranker as a folder that `BlockRanker.from_pretrained` reads.

Enters: the model that training began with and its trained tensors. Leaves: the whole model as
safetensors and its tokenizer, or what changes the model alone; `blockrank.yaml`; and
`training.json`, which says where it came from.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from configs.files import new_folder
from configs.models import find_model, load_model
from rerank.backbones.late_interaction import FILE as LATE_INTERACTION_FILE
from rerank.backbones.low_rank import FILE as UPDATE_FILE
from rerank.backbones.low_rank import add_update, update_tensors
from rerank.backbones.protocol import Backbone
from rerank.backbones.query_gates import FILE as QUERY_GATES_FILE
from rerank.settings.common import RankerSettings
from rerank.settings.reading import OWN_SETTINGS, base_of
from rerank.settings.writing import write_settings

RECORD = "training.json"


def export_model(
    folder: Path,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    backbone: Backbone,
    record: Mapping[str, Any],
) -> None:
    """Load the model `name` whole, put `tensors` into it and write it to `folder`.

    Their names begin with `model.` for the transformers model without its head, or `head.`.
    Layers above the scoring one stay as they were: they are saved, so that the folder is still a
    whole language model. Raises `ValueError` where `folder` exists.
    """
    from transformers import AutoTokenizer

    with new_folder(folder) as made:
        model, resolved = load_model("reranker", name, _load)
        with torch.no_grad():
            for path, tensor in tensors.items():
                part, _, inner = path.partition(".")
                owner = model.base_model if part == "model" else model.get_output_embeddings()
                owner.get_parameter(inner).copy_(tensor)
        model.save_pretrained(made, safe_serialization=True)
        AutoTokenizer.from_pretrained(resolved).save_pretrained(made)
        _save_parts(made, backbone)
        _describe(made, replace(backbone.settings, base=None), record)


def export_update(
    folder: Path,
    base: str,
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    backbone: Backbone,
    record: Mapping[str, Any],
) -> None:
    """Write to `folder` what changes `base`: a low-rank update of its weights, in float16.

    Raises `ValueError` where `folder` exists.
    """
    with new_folder(folder) as made:
        save_file(update_tensors(pairs), made / UPDATE_FILE)
        _save_parts(made, backbone)
        _describe(made, replace(backbone.settings, base=base), record)


def _save_parts(folder: Path, backbone: Backbone) -> None:
    """What an encoder scores with beside its model."""
    files = {"late_interaction": LATE_INTERACTION_FILE, "query_gates": QUERY_GATES_FILE}
    for name, file in files.items():
        if (part := getattr(backbone, name, None)) is not None:
            state = {name: tensor.detach().cpu() for name, tensor in part.state_dict().items()}
            save_file(state, folder / file)
    lexical = getattr(backbone, "lexical", None)
    if lexical is not None:
        lexical.save(folder)


def _describe(folder: Path, settings: RankerSettings, record: Mapping[str, Any]) -> None:
    write_settings(folder / OWN_SETTINGS, settings)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _load(resolved: str) -> tuple[Any, str]:
    """The model in fp32, with the update that its folder may carry, and where its tokenizer is."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    own = Path(resolved)
    base = base_of(own)
    resolved = find_model(base) if base else resolved
    config = AutoConfig.from_pretrained(resolved, trust_remote_code=False)
    writes = any("CausalLM" in name for name in config.architectures or [])
    loader = AutoModelForCausalLM if writes else AutoModel
    model = loader.from_pretrained(resolved, dtype=torch.float32, use_safetensors=True)
    add_update(model.base_model, own)
    return model, resolved
