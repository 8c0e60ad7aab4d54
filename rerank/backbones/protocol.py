"""The one interface behind which encoders and decoders score.

Enters: packed prompts. Leaves: what scores are made of, the queries and keys of the scoring heads.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch

from kernels import CachedLayout
from kernels.host import to_device
from rerank.backbones.lexical import WordWeights
from rerank.backbones.passage_states import PassageStates
from rerank.prompt.packing import PackedPrompts, PromptTokens, pack
from rerank.settings.common import RankerSettings


class ScoringHeads(NamedTuple):
    """Heads of one layer that score.

    `q` [S, Hq, D] of the signal tokens, `k` [T, Hkv, D] of all packed tokens, of which only those
    of passages count; `scale` multiplies the logits, and `weights` float32 [Hq, S] is what each
    head and signal token counts in the score.
    """

    q: torch.Tensor
    k: torch.Tensor
    scale: float
    weights: torch.Tensor


class Prior(NamedTuple):
    """What is added to a passage's score: the product of its vector and its query's.

    `queries` [R, d] and `passages` [P, d], one prompt's after the other.
    """

    queries: torch.Tensor
    passages: torch.Tensor

    def values(self, counts: Sequence[int]) -> torch.Tensor:
        """float64 [P] for prompts of `counts` passages each."""
        owners = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        own = self.queries[to_device(owners, self.queries.device)]
        return (own.double() * self.passages.double()).sum(-1)


class Readout(NamedTuple):
    """What a backbone hands to scoring; `prior` and `words` are None where there is none."""

    heads: tuple[ScoringHeads, ...]
    prior: Prior | None = None
    words: WordWeights | None = None


class Backbone(Protocol):
    """A model that reads packed prompts."""

    tokenizer: Any
    model: Any
    device: torch.device
    pad_id: int
    query_position: int | None

    @property
    def settings(self) -> RankerSettings:
        """How it ranks: `EncoderSettings` or `DecoderSettings`."""
        ...

    def read(self, prompts: PackedPrompts) -> Readout:
        """Run the model as far as scores need it."""
        ...

    def read_passages(self, prompts: PackedPrompts) -> PassageStates:
        """What a query needs of the instructions and passages, where they don't see it."""
        ...

    def read_query(
        self, query: PackedPrompts, states: PassageStates, places: CachedLayout
    ) -> Readout:
        """As `read`, of a query block alone; `places` tells where `states` has its passages."""
        ...


class Scorer(Protocol):
    """Whatever scores with a backbone: a reranker."""

    @property
    def backbone(self) -> Backbone:
        """The model that it reads with."""
        ...


def packed_for(backbone: Backbone, prompts: Sequence[PromptTokens]) -> PackedPrompts:
    """`prompts` laid out as `backbone` reads them."""
    return pack(
        prompts,
        backbone.settings,
        pad_id=backbone.pad_id,
        query_position=backbone.query_position,
        device=backbone.device,
    )


def signal_shares(prompts: PackedPrompts) -> torch.Tensor:
    """float32 [S]: 1 / the number of signal tokens of each signal token's request."""
    counts = torch.bincount(prompts.signal_request, minlength=len(prompts.passage_counts))
    shares = 1 / counts[prompts.signal_request].float()
    return to_device(shares, prompts.signal.device)
