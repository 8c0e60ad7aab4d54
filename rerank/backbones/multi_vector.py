"""Other people's late interaction: the multi-vector checkpoints of sentence-transformers.

Enters: a checkpoint that sentence-transformers' `MultiVectorEncoder` reads (its own, PyLate's,
Stanford's ColBERT). Leaves: a backbone whose scores are the library's, on packed blocks.

    load_multi_vector(Path("my-colbert"), torch.device("cpu"), torch.float32)

The library loads it, so that every format means what it means there; what the checkpoint says of
prompts, lengths, tokens and maxima becomes `MultiVectorSettings`. Its transformer then reads blocks
through our attention, and its other modules see the rows of that, each side its own way.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from configs.models import refuse_pickles
from configs.modules import FILES_READ, check_modules
from kernels.layout import Span
from rerank.backbones.block_interface import BlockContext, no_interface, register
from rerank.backbones.encoder import EncoderBackbone
from rerank.backbones.protocol import Readout, ScoringHeads, signal_shares
from rerank.prompt.packing import PackedPrompts
from rerank.settings.multi_vector import Expansion, MultiVectorSettings

_CONFIG = "config_sentence_transformers.json"
_TYPES = ("MultiVectorEncoder", "ColBERT")  # the second is PyLate's
_STANFORD = "HF_ColBERT"
# PyLate's class, which the library reads as its own.
_KNOWN = ("pylate.models.Dense.Dense",)
_PLACEHOLDERS = ("{query}", "{title}", "{text}")
# Of prompts, the first that there is counts.
_QUERY_PROMPTS, _PASSAGE_PROMPTS = ("query",), ("document", "passage", "corpus")


class TokenModel(nn.Module):
    """A checkpoint's transformer and what makes its states into vectors, for either side."""

    def __init__(self, body: Any, heads: list[nn.Module]) -> None:
        super().__init__()
        self.body = body
        self.heads = nn.ModuleList(heads).float()
        self.config = body.config

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        device: torch.device = self.body.device
        return device

    @property
    def embeddings(self) -> Any:
        """Those of the transformer, which know where its positions begin."""
        return getattr(self.body, "embeddings", None)

    @property
    def dtype(self) -> torch.dtype:
        """What the transformer computes in; the rest is fp32."""
        dtype: torch.dtype = self.body.dtype
        return dtype

    def train(self, mode: bool = True) -> "TokenModel":
        """Raise `ValueError` when asked to train: its own library does that."""
        if mode:
            raise ValueError(
                "a late-interaction checkpoint is not trained here: train it with "
                "sentence-transformers (MultiVectorEncoderTrainer)"
            )
        super().train(mode)
        return self

    def vectors(self, hidden: torch.Tensor, ids: torch.Tensor, task: str) -> torch.Tensor:
        """The vectors float32 [T, d] of states [T, h] of tokens `ids` [T], as `task` makes them."""
        features: dict[str, Any] = {
            "token_embeddings": hidden[None].float(),
            "input_ids": ids[None],
            "attention_mask": torch.ones_like(ids)[None],
        }
        for head in self.heads:
            wanted = getattr(head, "forward_kwargs", ())
            features = head(features, **({"task": task} if "task" in wanted else {}))
        found: torch.Tensor = features["token_embeddings"][0]
        return found


@dataclass
class MultiVectorContext(BlockContext):
    """Blocks whose last tokens nobody attends to, and layers that see no further than a window.

    `unattended` counts such tokens of a block, by its first token's number.
    """

    unattended: Mapping[int, int] = field(default_factory=dict)
    _window: int | None = None

    def check_window(self, window: int) -> None:
        """Take note of how far this layer sees: less than so many tokens to each side."""
        self._window = window

    def attend(
        self, layer: int | None, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """As `BlockContext`, with the blocks that the kernels don't know read one by one."""
        window, self._window = self._window, None
        output = super().attend(layer, q, k, v, scale)
        for request in self.layout.spans:
            for start, end in request.passages:
                hidden = self.unattended.get(start, 0)
                if window is not None and hidden >= window:
                    raise ValueError(
                        f"a query has {hidden} expansion tokens and a layer of the model sees less "
                        f"than {window} tokens to each side: some would see none of the query"
                    )
                if hidden or (window is not None and end - start > window):
                    rows = slice(start, end)
                    sees = _sees(end - start, hidden, window, q.device)
                    output[rows] = _attention(q[rows], k[rows], v[rows], sees, scale)
        return output


class MultiVectorBackbone(EncoderBackbone):
    """A late interaction as its checkpoint defines it: MaxSim of projected states."""

    model: TokenModel
    settings: MultiVectorSettings

    def read(self, prompts: PackedPrompts) -> Readout:
        """One head of the vectors' width, whose logits' scale makes a soft maximum a hard one."""
        requests = len(prompts.passage_counts)
        queries = [each.passages[0] for each in prompts.layout.spans[requests : 2 * requests]]
        context = MultiVectorContext(
            prompts.layout, causal=False, unattended=self._unattended(prompts, queries)
        )
        output = self.model.body(
            input_ids=prompts.input_ids[None],
            position_ids=self.positions(prompts)[None],
            block_context=context,
        )
        if not context.layers:
            raise ValueError(no_interface(self.model.body))
        hidden = output.last_hidden_state[0]
        keys = self.model.vectors(hidden, prompts.input_ids, "document")
        signals = self.model.vectors(
            hidden[prompts.signal], prompts.input_ids[prompts.signal], "query"
        )
        weights = signal_shares(prompts)
        if not self.settings.mean:
            weights = torch.ones_like(weights)
        scale = 1 / self.settings.temperature
        return Readout((ScoringHeads(signals[:, None], keys[:, None], scale, weights[None]),))

    def _unattended(self, prompts: PackedPrompts, queries: list[Span]) -> dict[int, int]:
        """How many expansion tokens end each query that has some, where nobody attends to them."""
        expansion = self.settings.expansion
        if expansion is None or expansion.attends:
            return {}
        found = {}
        for start, end in queries:
            own = (prompts.input_ids[start:end] != expansion.token).nonzero()[:, 0]
            last = int(own[-1]) + 1 if len(own) else 0
            found[start] = end - start - last
        return {start: count for start, count in found.items() if count}


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
        for each in (each for route in module.sub_modules.values() for each in route):
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


def _sees(tokens: int, hidden: int, window: int | None, device: torch.device) -> torch.Tensor:
    """bool [T, T], whom each of a block's `tokens` sees; its last `hidden` are seen by nobody."""
    places = torch.arange(tokens, device=device)
    distance = places[:, None] - places
    sees = (places < tokens - hidden).expand(tokens, tokens)
    return sees if window is None else sees & (distance.abs() < window)


def _attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sees: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention [T, Hq, D] of one block; its bits depend on no other block."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    # Copies: how a product adds up may depend on where in memory its factors begin.
    q, k, v = (x.transpose(0, 1).contiguous() for x in (q, k, v))
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=sees[None], scale=scale)
    return found.transpose(0, 1)
