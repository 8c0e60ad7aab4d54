"""Load a reranker's model into the backbone that fits it.

Enters: a model's name. Leaves: a `Backbone`.

    load_backbone("smollm2")
"""

from pathlib import Path
from typing import Any

import torch

from configs.models import find_model, load_model, refuse_pickles
from kernels import has_bfloat16_units, missing_for_fp8, steady_linears
from rerank.backbones.decoder import DecoderBackbone
from rerank.backbones.encoder import EncoderBackbone
from rerank.backbones.fp8 import FP8
from rerank.backbones.fused_layers import fuse_layers
from rerank.backbones.multi_vector_checkpoint import load_multi_vector, multi_vector_folder
from rerank.backbones.protocol import Backbone
from rerank.settings.common import RankerSettings
from rerank.settings.decoder import DecoderSettings
from rerank.settings.encoder import EncoderSettings
from rerank.settings.reading import OWN_SETTINGS, base_of, settings_for

# By `benchmarks/precision.py`, on collections that chose nothing of them.
_AS_GOOD_IN_BFLOAT16 = ("mini",)


def load_backbone(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    settings: RankerSettings | None = None,
) -> Backbone:
    """Load the reranker `name`: a local model, a folder, or a hub model.

    `device` is the first GPU if there is one, `dtype` float32 on CPU and the checkpoint's own on
    a GPU; "fp8" is for decoders, whose linear layers it halves once more. Raises `ValueError` when
    the model can't be found, lacks the attention interface, or can't run so.
    """
    return load_model(
        "reranker", name, lambda resolved: _load(name, resolved, device, dtype, settings)
    )


def _load(
    name: str,
    resolved: str,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    settings: RankerSettings | None,
) -> Backbone:
    from transformers import AutoConfig

    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    precision = dtype_of(dtype, place, name)
    own = Path(resolved)
    if settings is None and not (own / OWN_SETTINGS).is_file():
        checkpoint = multi_vector_folder(resolved)
        if checkpoint is not None:
            return _late_interaction(checkpoint, place, precision)
    base = base_of(own)
    if base:
        resolved = find_model(base)
        refuse_pickles(Path(resolved))
    config = AutoConfig.from_pretrained(resolved, trust_remote_code=False)
    kind = kind_of(config)
    settings = settings or settings_for(name, str(own), kind)
    if settings.backbone != kind:
        raise ValueError(f"its settings say {settings.backbone}, and it is a {kind}")
    backbone: Backbone
    if isinstance(settings, EncoderSettings):
        _refuse_fp8(precision)
        backbone = EncoderBackbone.load(resolved, config, settings, place, precision, own)
    else:
        assert isinstance(settings, DecoderSettings)
        backbone = DecoderBackbone.load(resolved, config, settings, place, precision, own)
    return _ready(backbone)


def _late_interaction(checkpoint: Path, device: torch.device, dtype: torch.dtype | str) -> Backbone:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    if kind_of(config) == "decoder":
        raise ValueError("it is a decoder's late interaction; only encoders' are read")
    _refuse_fp8(dtype)
    return _ready(load_multi_vector(checkpoint, device, dtype))


def _ready(backbone: Backbone) -> Backbone:
    """`backbone`, whose model computes as its device does it best."""
    steady_linears(backbone.model)
    if backbone.device.type == "cuda":
        fuse_layers(backbone.model)
    return backbone


def _refuse_fp8(dtype: torch.dtype | str) -> None:
    if dtype == FP8:
        raise ValueError(f"dtype {FP8!r} is for decoders, and it is an encoder: take bfloat16")


def kind_of(config: Any) -> str:
    """`decoder` for causal language models, else `encoder`, by the class the config names."""
    architectures = config.architectures or []
    if any("CausalLM" in architecture for architecture in architectures):
        return "decoder"
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    causal = config.model_type in CAUSAL and config.model_type not in MASKED
    return "decoder" if causal else "encoder"


def dtype_of(
    dtype: str | torch.dtype | None, device: torch.device, name: str = ""
) -> torch.dtype | str:
    """What `from_pretrained` takes for the reranker `name`, or `FP8`.

    None is float32 on a CPU and the checkpoint's own on a GPU: never `FP8`. "auto" is the same but
    for rerankers whose nDCG@10 was measured to lose less than .002 in bfloat16, on a CPU with units
    for it (docs/rerank.md, "Numbers of fewer bits"): those take bfloat16 there. Raises `ValueError`
    for a name that is no floating type a model runs in, on that device.
    """
    if dtype == "auto":
        half = device.type == "cpu" and name in _AS_GOOD_IN_BFLOAT16 and has_bfloat16_units()
        dtype = torch.bfloat16 if half else None
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == FP8:
        if missing := missing_for_fp8(device):
            raise ValueError(f"dtype {FP8!r} {missing}: take bfloat16")
        return FP8
    named = getattr(torch, dtype, None)
    if named not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"dtype is {dtype!r}, wanted auto, float32, bfloat16, float16 or {FP8}")
    return named
