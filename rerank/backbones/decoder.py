"""Causal language models (Llama, Mistral, Qwen, Gemma 3, ...): causal blocks, scored at layer l*.

Enters: packed prompts. Leaves: q of the signal tokens and k of all tokens at the scoring layers,
with rotary positions applied. Layers above the highest of them are neither loaded nor run.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kernels import CachedLayout
from kernels.host import to_device
from rerank.backbones.block_interface import (
    BlockContext,
    LayerKeys,
    ScoringLayerReached,
    no_interface,
    register,
)
from rerank.backbones.block_selection import SelectingContext, selecting
from rerank.backbones.cached_context import CachedContext, KeepingContext
from rerank.backbones.early_exit import end_early
from rerank.backbones.fp8 import FP8, precision_name, state_dtype, to_fp8
from rerank.backbones.low_rank import add_update
from rerank.backbones.passage_states import PassageStates
from rerank.backbones.protocol import Readout, ScoringHeads, signal_shares
from rerank.backbones.short_row import in_fewest_threads
from rerank.prompt.packing import BlockTokens, PackedPrompts, PromptTokens, pack
from rerank.settings.decoder import DecoderSettings


class LayerHeads(NamedTuple):
    """The heads of one layer that score, and their weights; None: all heads, alike."""

    heads: tuple[int, ...] | None
    weights: tuple[float, ...] | None


class DecoderBackbone:
    """A causal model over packed prompts, run as far as its highest scoring layer."""

    def __init__(
        self, model: Any, tokenizer: Any, settings: DecoderSettings, layers: int | None = None
    ) -> None:
        """`layers` is the whole model's number of layers, where `model` is cut off."""
        self.settings = settings
        self.tokenizer = tokenizer
        self.model = model
        self.scoring = scoring_layers(settings, model.config, layers)
        self.device = model.device
        self.pad_id = tokenizer.pad_token_id or tokenizer.eos_token_id or 0
        limit = getattr(model.config, "max_position_embeddings", None)
        self.query_position = _query_position(settings, limit)

    @classmethod
    def load(
        cls,
        folder: str,
        config: Any,
        settings: DecoderSettings,
        device: torch.device,
        dtype: torch.dtype | str,
        own: Path | None = None,
    ) -> "DecoderBackbone":
        """Load the layers up to the highest scoring one; `ValueError` when there is none such.

        An update of the weights is read from the folder `own`, or from `folder` itself.
        """
        from transformers import AutoModel, AutoTokenizer

        scoring = scoring_layers(settings, config)
        last = max(scoring)
        model = AutoModel.from_pretrained(
            folder,
            attn_implementation=register(),
            dtype=state_dtype(dtype),
            use_safetensors=True,
            num_hidden_layers=last + 1,
        )
        add_update(model, own or Path(folder))
        if dtype == FP8:
            to_fp8(model, scoring, device)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        backbone = cls(model.to(device).eval(), tokenizer, settings, config.num_hidden_layers)
        end_early(model, last, lambda: _sample(backbone))
        return backbone

    @property
    def precision(self) -> str:
        """The dtype that it runs in, as users name it."""
        return precision_name(self.model)

    @property
    def last_layer(self) -> int:
        """The highest scoring layer, where the forward pass ends."""
        return max(self.scoring)

    def read(self, prompts: PackedPrompts) -> Readout:
        """The scoring heads of every scoring layer, from the lowest up; differentiable.

        Raises `ValueError` when the model's attention does not go through the interface.
        """
        return in_fewest_threads(self._read, prompts)

    def _read(self, prompts: PackedPrompts) -> Readout:
        context = BlockContext(**self._pass(prompts))
        self._run(prompts, context)
        return self.readout(context, prompts)

    @property
    def coverage_layer(self) -> int:
        """The layer whose attention says which passages are read on from there.

        Raises `ValueError` where none lies below the last one that scores.
        """
        asked, last = self.settings.coverage_layer, self.last_layer
        layer = last // 2 if asked is None else asked
        if not 0 <= layer < last:
            raise ValueError(
                f"coverage chooses passages at a layer below the last one that scores, which is "
                f"{last}: layer {layer} is none; set coverage_layer"
            )
        return layer

    def read_estimate(self, prompts: PackedPrompts) -> Readout:
        """The heads of `coverage_layer` alone: those that score there, or else all.

        The pass ends at that layer.
        """
        layer = self.coverage_layer
        ends = {"scoring_layers": frozenset({layer}), "last": layer}
        context = BlockContext(**{**self._pass(prompts), **ends})
        self._run(prompts, context)
        return self._estimate(context.found[layer], prompts)

    def read_chosen(
        self, prompts: PackedPrompts, choose: Callable[[Readout], Sequence[Sequence[int]]]
    ) -> tuple[Readout, PackedPrompts]:
        """As `read`, but that some passages stop at `coverage_layer`; and the prompts without them.

        `choose` is given what `read_estimate` gives, and says which passages of each prompt go on.
        """
        context = SelectingContext(
            **self._pass(prompts),
            prompts=prompts,
            layer=self.coverage_layer,
            choose=lambda keys: choose(self._estimate(keys, prompts)),
        )
        with selecting(self.model, context):
            self._run(prompts, context)
        return self.readout(context, context.prompts), context.prompts

    def _estimate(self, keys: LayerKeys, prompts: PackedPrompts) -> Readout:
        heads = self.scoring.get(self.coverage_layer, LayerHeads(None, None))
        return Readout((_scoring_heads(keys, heads, signal_shares(prompts)),))

    def read_passages(self, prompts: PackedPrompts) -> PassageStates:
        """What query blocks need of `prompts`' instructions and passages, [T, Hkv, D] each.

        With `query_attends` the keys and values of every layer below the last one that scores,
        and its keys; without, the keys of the layers that score.
        """
        context = KeepingContext(**self._pass(prompts), attended=self.settings.query_attends)
        self._run(prompts, context)
        return PassageStates(context.kept, {})

    def read_query(
        self, query: PackedPrompts, states: PassageStates, places: CachedLayout
    ) -> Readout:
        """As `read`, of query blocks alone: `places` says which of `states` each request has."""
        attended = places if self.settings.query_attends else None
        context = CachedContext(**self._pass(query), cached=states.tokens, places=attended)
        self._run(query, context)
        return self.readout(context, query)

    def _pass(self, prompts: PackedPrompts) -> dict[str, Any]:
        """What every pass over `prompts` tells its context."""
        return {
            "layout": prompts.layout,
            "causal": True,
            "signal": prompts.signal,
            "scoring_layers": frozenset(self.scoring),
            "last": self.last_layer,
        }

    def _run(self, prompts: PackedPrompts, context: BlockContext) -> None:
        """Run the layers up to the last one that scores; `context` knows what they see and keep."""
        try:
            self.model(
                input_ids=prompts.input_ids[None],
                position_ids=prompts.positions[None],
                use_cache=False,
                block_context=context,
            )
        except ScoringLayerReached:
            return
        raise ValueError(no_interface(self.model))

    def readout(self, context: BlockContext, prompts: PackedPrompts) -> Readout:
        """The scoring heads out of what a pass over `prompts` left in `context`."""
        shares = signal_shares(prompts)
        return Readout(
            tuple(
                _scoring_heads(context.found[layer], chosen, shares)
                for layer, chosen in self.scoring.items()
            )
        )


def scoring_layers(
    settings: DecoderSettings, config: Any, layers: int | None = None
) -> dict[int, LayerHeads]:
    """The layers that score, from the lowest up, and their heads; the weights of all sum to 1.

    `layers` is the number of layers where `config` doesn't tell. Raises `ValueError` for a layer
    or a head that the model does not have.
    """
    layers = getattr(config, "num_hidden_layers", None) if layers is None else layers
    if layers is None:
        raise ValueError(
            f"{type(config).__name__} names no layers of its own: a model of more than text; "
            f"save its language model alone and load that"
        )
    if settings.heads is None:
        layer = int(settings.layer_share * layers) if settings.layer is None else settings.layer
        chosen = {layer: LayerHeads(None, None)}
    else:
        weights = settings.head_weights or (1.0,) * len(settings.heads)
        total = sum(weights)
        grouped: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for (layer, head), weight in zip(settings.heads, weights, strict=True):
            if not 0 <= head < config.num_attention_heads:
                raise ValueError(
                    f"its settings score with head {head} of layer {layer}, it has heads 0 to "
                    f"{config.num_attention_heads - 1}"
                )
            grouped[layer].append((head, weight / total))
        chosen = {}
        for layer, pairs in sorted(grouped.items()):
            heads, shares = zip(*sorted(pairs), strict=True)
            chosen[layer] = LayerHeads(heads, shares)
    for layer in chosen:
        if not 0 <= layer < layers:
            raise ValueError(
                f"its settings score at layer {layer}, it has layers 0 to {layers - 1}"
            )
    return chosen


def _scoring_heads(found: LayerKeys, chosen: LayerHeads, shares: torch.Tensor) -> ScoringHeads:
    """Weights [Hq, S] from `shares` [S]; heads that do not score are cut away with their keys."""
    q, k, scale = found
    if chosen.heads is None:
        return ScoringHeads(q, k, scale, shares.expand(q.shape[1], -1) / q.shape[1])
    group = q.shape[1] // k.shape[1]
    weights = to_device(torch.tensor(chosen.weights), shares.device)[:, None] * shares
    heads = torch.tensor(chosen.heads)
    keys = k[:, to_device(heads // group, k.device)]
    return ScoringHeads(q[:, to_device(heads, q.device)], keys, scale, weights)


@torch.inference_mode()
def _sample(backbone: DecoderBackbone) -> list[torch.Tensor]:
    """What scores a small prompt: queries, and keys of passages."""
    block = BlockTokens([0, 1, 2], [(0, 0)] * 3, [False] * 3)
    prompt = PromptTokens(block, [block, block], block, [1, 2], 0)
    prompts = pack(
        [prompt],
        backbone.settings,
        pad_id=0,
        query_position=backbone.query_position,
        device=backbone.device,
    )
    rows = [token for span in prompts.layout.spans[0].passages for token in range(*span)]
    heads = backbone.read(prompts).heads
    return [part for head in heads for part in (head.q.float(), head.k[rows].float())]


def _query_position(settings: DecoderSettings, limit: int | None) -> int | None:
    """Where the query block starts: far from the passages, but inside the model's positions."""
    if settings.query_position is None or limit is None:
        return settings.query_position
    return max(0, min(settings.query_position, limit - settings.max_query_tokens))
