"""Encoders of the BERT family: blocks are bidirectional, positions are learned and few.

Enters: packed prompts. Leaves: the normalised last hidden states, as one head's queries and keys
with identity projections: a soft late interaction, where training starts from. A trained one adds
what each query token counts, and the product of pooled vectors as a prior.
"""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from kernels import CachedLayout
from kernels.host import to_device
from kernels.threads import in_threads
from rerank.backbones.block_interface import BlockContext, no_interface, register
from rerank.backbones.late_interaction import LateInteraction, pooled
from rerank.backbones.lexical import Lexical
from rerank.backbones.low_rank import add_update
from rerank.backbones.packed_encoder import PackedEncoder
from rerank.backbones.passage_states import PassageStates, head_name
from rerank.backbones.protocol import Prior, Readout, ScoringHeads, signal_shares
from rerank.backbones.query_gates import GatedContext, QueryGates
from rerank.backbones.short_row import in_fewest_threads
from rerank.prompt.packing import PackedPrompts
from rerank.settings.encoder import EncoderSettings

# The name that a cache keeps passages' pooled vectors by.
_POOLED = "pooled"
# Rows that a thread normalises at once: what lies between is small enough for its cache.
_UNIT_ROWS = 512


class EncoderBackbone:
    """A bidirectional model over packed prompts."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: EncoderSettings,
        late_interaction: LateInteraction | None = None,
        lexical: Lexical | None = None,
        query_gates: QueryGates | None = None,
    ) -> None:
        self.settings = settings
        self.query_gates = query_gates
        self.lexical = lexical
        self.late_interaction = late_interaction
        self.tokenizer = tokenizer
        self.model = model
        self._packed = PackedEncoder()
        self.device = model.device
        self.pad_id = tokenizer.pad_token_id or 0
        # A query that is read alone starts where a text of its own starts.
        self.query_position = settings.query_position if settings.query_attends else None
        # RoBERTa's family numbers positions from behind its padding id.
        table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        self._first_position = 0 if padding is None else padding + 1
        self._positions = model.config.max_position_embeddings - self._first_position
        longest = max(settings.max_passage_tokens, settings.max_query_tokens)
        if longest > self._positions:
            raise ValueError(f"it has {self._positions} positions, its settings ask for {longest}")

    @classmethod
    def load(
        cls,
        folder: str,
        config: Any,
        settings: EncoderSettings,
        device: torch.device,
        dtype: torch.dtype | str,
        own: Path | None = None,
    ) -> "EncoderBackbone":
        """Load weights and tokenizer; raises `ValueError` where the settings ask for too much.

        What the settings name besides (an update of the weights, a trained late interaction) is
        read from the folder `own`, or from `folder` itself.
        """
        from transformers import AutoModel, AutoTokenizer

        model = AutoModel.from_pretrained(
            folder,
            attn_implementation=register(),
            dtype=dtype,
            use_safetensors=True,
            **({"add_pooling_layer": False} if config.model_type == "bert" else {}),
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
        own = own or Path(folder)
        add_update(model, own)
        late = None
        if settings.late_interaction:
            late = LateInteraction.load(own, config.vocab_size, config.hidden_size).to(device)
        lexical = Lexical.load(own) if settings.lexical else None
        gates = None
        if settings.query_gates:
            layers, heads = config.num_hidden_layers, config.num_attention_heads
            gates = QueryGates.load(own, layers, heads).to(device)
        return cls(model.to(device).eval(), tokenizer, settings, late, lexical, gates)

    def positions(self, prompts: PackedPrompts) -> torch.Tensor:
        """int64 [T], the positions of `prompts` as this model numbers them.

        Raises `ValueError` when the blocks together reach further than it has positions.
        """
        last = prompts.layout.last_position(self.query_position)
        if last >= self._positions:
            raise ValueError(
                f"the prompt reaches position {last}, the model has {self._positions}: lower "
                f"max_passage_tokens, or let the query be read alone (query_attends: false)"
            )
        return prompts.positions + self._first_position

    def read(self, prompts: PackedPrompts) -> Readout:
        """One head of width d: the normalised hidden states, logits divided by the temperature.

        Raises `ValueError` when the model's attention does not go through the interface: it would
        read all blocks as one text.
        """
        return in_fewest_threads(self._read, prompts)

    def _read(self, prompts: PackedPrompts) -> Readout:
        context = self._context(prompts)
        positions = self.positions(prompts)
        states = self._packed.states(self.model, prompts.input_ids, positions, context)
        if states is None:
            output = self.model(
                input_ids=prompts.input_ids[None],
                position_ids=positions[None],
                block_context=context,
            )
            states = output.last_hidden_state[0]
        if not context.layers:
            raise ValueError(no_interface(self.model))
        hidden = _unit(states)
        if self.late_interaction is not None:
            readout = self._late_readout(hidden, states, prompts)
        else:
            weights = signal_shares(prompts)[None]
            keys = hidden[:, None]
            scale = 1 / self.settings.temperature
            readout = Readout((ScoringHeads(keys[prompts.signal], keys, scale, weights),))
        if self.lexical is None:
            return readout
        requests = len(prompts.passage_counts)
        words = self.lexical.read(prompts.signal_words, prompts.signal_request, requests)
        return readout._replace(words=words)

    def read_passages(self, prompts: PackedPrompts) -> PassageStates:
        """The keys [T, 1, d] that score, one set a scoring head, and the prior's vectors [P, d].

        Raises `ValueError` where query blocks read passages, or passages the query: their states
        change with it.
        """
        if self.settings.query_attends or self.query_gates is not None:
            raise ValueError(
                "an encoder's passages can be cached only with query_attends: false and without "
                "query_gates"
            )
        readout = self.read(prompts)
        vectors = {} if readout.prior is None else {_POOLED: readout.prior.passages}
        return PassageStates({head_name(i): h.k for i, h in enumerate(readout.heads)}, vectors)

    def read_query(
        self, query: PackedPrompts, states: PassageStates, places: CachedLayout
    ) -> Readout:
        """As `read`, of queries read alone, with the keys of `states`."""
        del places  # no query block reads a passage
        readout = self.read(query)
        heads = tuple(
            head._replace(k=states.tokens[head_name(i)]) for i, head in enumerate(readout.heads)
        )
        prior = readout.prior and readout.prior._replace(passages=states.passages[_POOLED])
        return Readout(heads, prior, readout.words)

    def _context(self, prompts: PackedPrompts) -> BlockContext:
        if self.query_gates is None:
            return BlockContext(prompts.layout, causal=False)
        return GatedContext(prompts.layout, False, gates=self.query_gates, prompts=prompts)

    def _late_readout(
        self, unit: torch.Tensor, hidden: torch.Tensor, prompts: PackedPrompts
    ) -> Readout:
        """One head of width d, its temperature inside q so that it can be learned, and the prior.

        `unit` [T, d] are the normalised `hidden` states [T, d].
        """
        late = self.late_interaction
        assert late is not None
        requests = len(prompts.passage_counts)
        spans = prompts.layout.spans
        queries = [request.passages[0] for request in spans[requests : 2 * requests]]
        # The prior is dense search's own product: of a long passage it knows the first window.
        firsts = {span.start: span for request in spans for span in request.passages}
        whole = prompts.passages.spans[:requests]
        passages = [firsts[span.start] for request in whole for span in request.passages]
        signals = unit[prompts.signal]
        owners = to_device(prompts.signal_request, signals.device)
        weights = late.token_weights(prompts.input_ids[prompts.signal], signals, owners, requests)
        temperature = late.temperature
        head = ScoringHeads(
            (signals / temperature)[:, None], unit[:, None], 1.0, (weights * temperature)[None]
        )
        prior = Prior(late.dense_coefficient * pooled(hidden, queries), pooled(hidden, passages))
        return Readout((head,), prior)


def _unit(states: torch.Tensor) -> torch.Tensor:
    """`states` [T, d] as unit vectors, float32."""
    if states.device.type != "cpu" or states.requires_grad:
        return F.normalize(states.float(), dim=-1)
    unit = torch.empty(states.shape)

    def fill(start: int) -> None:
        rows = slice(start, start + _UNIT_ROWS)
        unit[rows] = F.normalize(states[rows].float(), dim=-1)

    for _ in in_threads(fill, range(0, len(states), _UNIT_ROWS)):
        pass
    return unit
