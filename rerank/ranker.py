"""The reranker: a query and its passages in, the passages ranked out.

Enters: strings, dicts or passages. Leaves: `Ranked`s, best first.

    BlockRanker.from_pretrained().rerank("who wrote Faust?", ["Goethe wrote Faust.", "A pear."])
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from configs.models import MINILM
from rerank.backbone import Backbone
from rerank.candidates import Candidate, Ranked, as_candidates, ranked
from rerank.loading import load_backbone
from rerank.packing import PromptTokens, pack, tokenize
from rerank.scoring import passage_scores
from rerank.template import fill

DEFAULT_RERANKER = MINILM
DEFAULT_MAX_TOKENS = 16_384


class PassagesTruncatedWarning(UserWarning):
    """Some passages were longer than the model's settings read."""


class BlockRanker:
    """BlockRank (arXiv 2510.05396): all passages in one block-sparse prompt.

    Scores are the same for any order of the passages, bit for bit on CPU.
    """

    def __init__(self, backbone: Backbone, *, max_tokens: int = DEFAULT_MAX_TOKENS) -> None:
        """`max_tokens` bounds what one forward pass reads, where passages may be split."""
        self.backbone = backbone
        self.settings = backbone.settings
        self.max_tokens = max_tokens

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
    ) -> "BlockRanker":
        """Load a reranker: a local model's name (default `minilm`), a folder, or a hub name.

        Raises `ValueError`, in one sentence, when there is no such model or it can't rank.
        """
        backbone = load_backbone(name_or_path or DEFAULT_RERANKER, device=device, dtype=dtype)
        return cls(backbone, max_tokens=max_tokens)

    def rerank(self, query: str, passages: Sequence[Any], top_k: int | None = None) -> list[Ranked]:
        """Rank `passages` for `query` and return the best `top_k` (None: all).

        Equal scores are ordered by id. Warns when passages are cut to the model's limit. Raises
        `ValueError` for an empty query, an empty list, an empty passage, repeated ids or a
        `top_k` below 1.
        """
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}, wanted at least 1")
        candidates = as_candidates(passages)
        return ranked(candidates, self.scores(query, candidates))[:top_k]

    @torch.inference_mode()
    def scores(self, query: str, candidates: Sequence[Candidate]) -> list[float]:
        """The score of each candidate, in their order; higher is better."""
        if not query.strip():
            raise ValueError("the query is empty")
        texts = fill(self.settings, query, candidates)
        (prompt,) = tokenize(self.backbone.tokenizer, self.settings, [texts])
        if prompt.truncated:
            warnings.warn(
                f"{prompt.truncated} of {len(candidates)} passages were cut to "
                f"{self.settings.max_passage_tokens} tokens",
                PassagesTruncatedWarning,
                stacklevel=4,  # `rerank`'s caller: torch wraps this method in one frame of its own
            )
        scores: list[float] = []
        for part in self._parts(prompt):
            packed = pack(
                [part],
                self.settings,
                pad_id=self.backbone.pad_id,
                query_position=self.backbone.query_position,
                device=self.backbone.device,
            )
            signals = self.backbone.signals_and_keys(packed)
            scores += passage_scores(signals, packed, self.settings)[0].tolist()
        return scores

    def token_counts(self, passages: Sequence[Any]) -> list[int]:
        """How many tokens the model reads of each passage, template included."""
        texts = fill(self.settings, "-", as_candidates(passages))
        (prompt,) = tokenize(self.backbone.tokenizer, self.settings, [texts])
        return [len(passage.ids) for passage in prompt.passages]

    def _parts(self, prompt: PromptTokens) -> list[PromptTokens]:
        """The prompt in parts of at most `max_tokens`, where a score needs no other passage.

        Where the query attends to the passages every score depends on all: one part.
        """
        if self.settings.query_attends:
            return [prompt]
        parts: list[PromptTokens] = []
        tokens = self.max_tokens + 1
        for passage in prompt.passages:
            if tokens + len(passage.ids) > self.max_tokens:
                parts.append(prompt._replace(passages=[]))
                tokens = len(prompt.instruction.ids) + len(prompt.query.ids)
            parts[-1].passages.append(passage)
            tokens += len(passage.ids)
        return parts
