"""The multi-vector checkpoints of sentence-transformers: found, checked, loaded.

Enters: what sentence-transformers' `MultiVectorEncoder` reads (its own, PyLate's, Stanford's
ColBERT). Leaves: a backbone whose scores are the library's, on packed blocks.

    load_multi_vector(Path("my-colbert"), torch.device("cpu"), torch.float32)

The library loads it, so that every format means what it means there; what the checkpoint says of
prompts, lengths, tokens and maxima becomes `MultiVectorSettings`. Its transformer then reads blocks
through our attention, and its other modules see the rows of that, each side its own way.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from configs.models import refuse_pickles
from configs.modules import FILES_READ, check_modules
from rerank.backbones.block_interface import register
from rerank.backbones.multi_vector import MultiVectorBackbone, TokenModel
from rerank.settings.multi_vector import Expansion, MultiVectorSettings

_CONFIG = "config_sentence_transformers.json"
_TYPES = ("MultiVectorEncoder", "ColBERT")  # the second is PyLate's
_STANFORD = "HF_ColBERT"
# PyLate's class, which the library reads as its own.
_KNOWN = ("pylate.models.Dense.Dense",)
_PLACEHOLDERS = ("{query}", "{title}", "{text}")
# Of prompts, the first that there is counts.
_QUERY_PROMPTS, _PASSAGE_PROMPTS = ("query",), ("document", "passage", "corpus")


def multi_vector_folder(name: str) -> Path | None:
    """The folder of the late-interaction checkpoint `name`, fetched if need be; None for no such.

    A checkpoint with a `blockrank.yaml` of its own is a reranker of ours.
    """
    import huggingface_hub

    folder = Path(name)
    if folder.is_dir():
        return folder if _is_multi_vector(folder) else None
    kinds = [_CONFIG, "config.json"]
    if not _is_multi_vector(Path(huggingface_hub.snapshot_download(name, allow_patterns=kinds))):
        return None
    return Path(huggingface_hub.snapshot_download(name, allow_patterns=FILES_READ))


def load_multi_vector(
    folder: Path, device: torch.device, dtype: torch.dtype | str
) -> MultiVectorBackbone:
    """The checkpoint in `folder` as a backbone.

    Raises `ValueError` for strangers' classes, pickles, and what is not a late interaction over
    plain text: chat templates, token pooling, modules that we don't know.
    """
    from sentence_transformers import MultiVectorEncoder

    refuse_pickles(folder)
    check_modules(folder, _KNOWN)
    checkpoint = MultiVectorEncoder(
        str(folder),
        device=str(device),
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={
            "attn_implementation": register(),
            "dtype": dtype,
            "use_safetensors": True,
        },
    )
    checkpoint.eval()
    transformer, *rest = checkpoint.children()
    _check_transformer(transformer)
    heads = [_checked_head(module) for module in rest]
    settings = _settings(checkpoint, transformer, heads)
    model = TokenModel(transformer.auto_model, [h for h in heads if not _is_mask(h)])
    return MultiVectorBackbone(model.eval(), transformer.tokenizer, settings)


def _is_multi_vector(folder: Path) -> bool:
    kind = _json(folder / _CONFIG).get("model_type")
    if kind is not None:
        return kind in _TYPES
    return _STANFORD in (_json(folder / "config.json").get("architectures") or ())


def _json(path: Path) -> dict[str, Any]:
    """The object in `path`; an empty one where there is none: what reads it next will tell."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_transformer(transformer: Any) -> None:
    """Raise `ValueError` where the first module is not a text encoder whose last states count."""
    from sentence_transformers.base.modules import Transformer

    if not isinstance(transformer, Transformer):
        raise ValueError(f"it begins with {type(transformer).__name__}, wanted a Transformer")
    reads = transformer.modality_config
    text = reads.get("text", {})
    if "message" in reads or text.get("method") != "forward":
        raise ValueError(f"it reads {', '.join(map(str, reads))}, wanted a model of plain text")
    if text.get("method_output_name") != "last_hidden_state":
        raise ValueError(f"it scores by {text.get('method_output_name')}, wanted last_hidden_state")
    if transformer.processing_kwargs:
        raise ValueError(f"it changes its tokenizer's calls ({transformer.processing_kwargs})")
    if transformer.tokenizer.truncation_side != "right":
        raise ValueError("its texts are cut on the left; wanted a tokenizer that cuts on the right")


def _checked_head(module: Any) -> Any:
    """`module`, which changes each token's vector by itself, or says which tokens count."""
    from sentence_transformers.base.modules import Normalize, Router
    from sentence_transformers.base.modules.dense import Dense
    from sentence_transformers.sentence_transformer.modules import WordWeights

    if isinstance(module, Router):
        routes = module.sub_modules.values()
        for each in (each for route in routes for each in route.children()):
            if _is_mask(each):
                raise ValueError("a MultiVectorMask stands inside its Router; put it behind")
            _checked_head(each)
    elif isinstance(module, Dense | Normalize):
        both = {module.module_input_name, module.module_output_name}
        if both != {"token_embeddings"}:
            raise ValueError(
                f"its {type(module).__name__} reads and writes {', '.join(sorted(both))}, wanted "
                f"token_embeddings"
            )
    elif not isinstance(module, WordWeights) and not _is_mask(module):
        raise ValueError(f"its {type(module).__name__} is not known to change tokens one by one")
    return module


def _is_mask(module: Any) -> bool:
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    return isinstance(module, MultiVectorMask)


def _settings(checkpoint: Any, transformer: Any, heads: list[Any]) -> MultiVectorSettings:
    tokenizer, config = transformer.tokenizer, transformer.auto_model.config
    masks = [head for head in heads if _is_mask(head)]
    most = min(tokenizer.model_max_length, _positions(transformer.auto_model))
    expansion, query_length = transformer.query_expansion, transformer.query_length or most
    if expansion is not None and expansion["strategy"] == "fixed":
        query_length = expansion["length"]
    elif expansion is not None:
        query_length = max(query_length, expansion["length"])
    words = max(len(tokenizer), config.vocab_size)
    return MultiVectorSettings(
        passage=_prompt(checkpoint, _PASSAGE_PROMPTS) + "{title}\n{text}",
        query=_prompt(checkpoint, _QUERY_PROMPTS) + "{query}",
        max_passage_tokens=min(transformer.document_length or most, most),
        max_query_tokens=min(query_length, most),
        passage_skips=_skips(masks, words, "document"),
        query_skips=_skips(masks, words, "query"),
        expansion=_expansion(expansion, tokenizer, bool(masks)),
        mean=checkpoint.similarity_fn_name == "meanmaxsim",
    )


def _positions(body: Any) -> int:
    """How many positions there are; RoBERTa's family leaves out those up to its padding id."""
    table = getattr(getattr(body, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    most: int = body.config.max_position_embeddings
    return most if padding is None else most - padding - 1


def _prompt(checkpoint: Any, names: tuple[str, ...]) -> str:
    """The first of the prompts `names` that the checkpoint has, its default prompt, or none."""
    name = next((n for n in names if n in checkpoint.prompts), checkpoint.default_prompt_name)
    prompt: str = checkpoint.prompts.get(name) or ""
    if any(placeholder in prompt for placeholder in _PLACEHOLDERS):
        raise ValueError(f"its prompt {prompt!r} spells a placeholder of templates")
    return prompt


def _skips(masks: list[Any], words: int, task: str) -> tuple[int, ...]:
    """The ids, of `words` that there are, that no mask lets count for `task`."""
    ids = torch.arange(words)
    features = {"input_ids": ids[None], "attention_mask": torch.ones(1, words, dtype=torch.bool)}
    for mask in masks:
        features = mask(features, task=task)
    return tuple((~features["attention_mask"][0].bool()).nonzero()[:, 0].tolist())


def _expansion(said: Mapping[str, Any] | None, tokenizer: Any, counts: bool) -> Expansion | None:
    """How queries are filled up; `counts` is whether a mask lets unattended tokens score."""
    if said is None or not (said["attend"] or counts):
        return None
    if said["token"] is not None:
        token = tokenizer.convert_tokens_to_ids(said["token"])
    else:
        token = tokenizer.mask_token_id
        token = tokenizer.eos_token_id if token is None else token
    if token is None:
        raise ValueError("its queries are expanded with a token that its tokenizer lacks")
    return Expansion(int(token), said["length"], said["attend"])
