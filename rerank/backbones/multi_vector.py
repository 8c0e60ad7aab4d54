"""Other people's late interaction: blocks read as a multi-vector checkpoint reads its texts.

Enters: packed prompts, whose `MultiVectorSettings` a checkpoint gave. Leaves: one head of the
checkpoint's own vectors, whose soft maximum is so sharp that in float32 it is the maximum.

Read `multi_vector_checkpoint.py` for where it comes from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from kernels.layout import Span
from rerank.backbones.block_interface import BlockContext, no_interface
from rerank.backbones.encoder import EncoderBackbone
from rerank.backbones.protocol import Readout, ScoringHeads, signal_shares
from rerank.prompt.packing import PackedPrompts
from rerank.settings.multi_vector import MultiVectorSettings


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
