"""What a passage cache was made with, and whether a reranker may read it.

Enters: a backbone. Leaves: a `CacheIdentity` to keep beside the states, or one clear `ValueError`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from rerank.backbones.fp8 import FP8, precision_name
from rerank.backbones.passage_states import PassageStates
from rerank.backbones.protocol import Backbone
from rerank.cache.precision import PRECISIONS
from rerank.settings.encoder import EncoderSettings
from rerank.settings.reading import all_fields

# What these settings say concerns the query alone, or what becomes of a score.
_FREE_SETTINGS = frozenset(
    {
        "query",
        "signal",
        "signal_tokens",
        "score",
        "query_position",
        "max_query_tokens",
        "head_weights",
        "coverage_layer",
        "calibration",
        "content_free_query",
        "probability",
        # What is left of these is `instruction_template`.
        "instruction",
        "instruction_alone",
        "query_in_instruction",
    }
)
_SAMPLE = 65_536
_DTYPES = ("float32", "bfloat16", "float16")
# Far above any model's; what a token or a passage of a cache may claim to take.
_MOST_NUMBERS = 1 << 20


@dataclasses.dataclass(frozen=True)
class CacheIdentity:
    """`settings` are those that passages' states depend on; `bits` and `salient_share` how the
    states are stored; `tokens` and `passages` the shape and dtype of each of them.
    """

    model: str
    fingerprint: str
    dtype: str
    settings: Mapping[str, Any]
    bits: int
    salient_share: float
    tokens: Mapping[str, tuple[int, int, str]]
    passages: Mapping[str, tuple[int, str]]

    def __post_init__(self) -> None:
        check_storage(self.bits, self.salient_share)
        shapes = {name: (heads, size) for name, (heads, size, _) in self.tokens.items()}
        shapes |= {name: (1, size) for name, (size, _) in self.passages.items()}
        for name, (heads, size) in shapes.items():
            if heads < 1 or size < 1 or heads * size > _MOST_NUMBERS:
                raise ValueError(f"the states {name} have {heads} heads of {size} numbers")
        kept = (*self.tokens.values(), *self.passages.values())
        states = ((str(each[-1]), _DTYPES) for each in kept)
        for dtype, wanted in ((self.dtype, (*_DTYPES, FP8)), *states):
            if dtype not in wanted:
                raise ValueError(f"dtype is {dtype!r}, wanted {', '.join(wanted)}")


def identify(
    backbone: Backbone, states: PassageStates, bits: int, salient_share: float
) -> CacheIdentity:
    """The identity of a cache that keeps such `states` of `backbone`."""
    check_storage(bits, salient_share)
    return CacheIdentity(
        model=str(backbone.model.config.model_type),
        fingerprint=fingerprint(backbone),
        dtype=precision_name(backbone.model),
        settings=cached_settings(backbone),
        bits=bits,
        salient_share=salient_share if bits == 4 else 0.0,
        tokens={n: (*x.shape[1:], _dtype_name(x.dtype)) for n, x in states.tokens.items()},
        passages={n: (x.shape[1], _dtype_name(x.dtype)) for n, x in states.passages.items()},
    )


def check_storage(bits: int, salient_share: float) -> None:
    """Raise `ValueError` for a precision or a share of salient tokens that there is not."""
    if bits not in PRECISIONS:
        raise ValueError(f"bits is {bits}, wanted {', '.join(map(str, PRECISIONS))}")
    if not 0 <= salient_share < 1:
        raise ValueError(f"the salient share is {salient_share}, wanted 0 or more and below 1")


def check_cacheable(backbone: Backbone) -> None:
    """Raise `ValueError` where passages' states depend on the query."""
    settings = backbone.settings
    if isinstance(settings, EncoderSettings) and settings.query_gates:
        raise ValueError(
            "this reranker's passages cannot be cached because they see the query: they read it "
            "through query_gates"
        )
    if settings.passages_see_query:
        raise ValueError(
            "this reranker's passages cannot be cached because they see the query: its template "
            "puts {query} into the instruction; set query_in_instruction: false"
        )


def check_identity(kept: CacheIdentity, own: CacheIdentity, where: str) -> None:
    """Raise `ValueError` unless a reranker whose caches are `own` made the states `kept`."""
    if kept.dtype != own.dtype:
        raise ValueError(f"{where} was made in {kept.dtype}, the reranker runs in {own.dtype}")
    settings = json.loads(json.dumps(dict(own.settings)))
    theirs = json.loads(json.dumps(dict(kept.settings)))
    # A setting that did not exist then is one that nobody gave.
    other = [n for n in {**settings, **theirs} if settings.get(n) != theirs.get(n)]
    if other:
        name = other[0]
        raise ValueError(
            f"{where} was made with other settings: {name} is {theirs.get(name)!r} there and "
            f"{settings.get(name)!r} here; build it again"
        )
    if kept.fingerprint != own.fingerprint:
        raise ValueError(
            f"{where} was made with another model ({kept.model}, fingerprint "
            f"{kept.fingerprint[:12]}) than this one ({own.model}, {own.fingerprint[:12]}); build "
            f"it again"
        )
    if (kept.tokens, kept.passages) != (own.tokens, own.passages):
        raise ValueError(
            f"{where} says that it holds other states than this model's; build it again"
        )


def cached_settings(backbone: Backbone) -> dict[str, Any]:
    """The settings that passages' states depend on; unknown ones count."""
    values = all_fields(backbone.settings)
    kept = {name: value for name, value in values.items() if name not in _FREE_SETTINGS}
    return {**kept, "instruction": backbone.settings.instruction_template}


def fingerprint(backbone: Backbone) -> str:
    """SHA-256 of the tokenizer and of every parameter's name, shape and evenly spread values.

    At most 65,536 values of a parameter are read: another training run shows in all of them.
    """
    found = hashlib.sha256(backbone.tokenizer.backend_tokenizer.to_str().encode())
    for name, tensor in sorted(backbone.model.state_dict().items()):
        flat = tensor.detach().flatten()
        spread = flat[:: max(1, len(flat) // _SAMPLE)].float().cpu().contiguous()
        found.update(f"{name} {tuple(tensor.shape)}".encode())
        found.update(spread.numpy().tobytes())
    return found.hexdigest()


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
