"""The reranker: a query and its passages in, the passages ranked out.

Enters: strings, dicts or passages. Leaves: `Ranked`s, best first.

    BlockRanker.from_pretrained().rerank("who wrote Faust?", ["Goethe wrote Faust.", "A pear."])
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from configs.formats.checks import check_queries
from configs.models import MINI
from rerank.backbones.loading import load_backbone
from rerank.backbones.protocol import Backbone, packed_for
from rerank.cache.build import DEFAULT_BITS, DEFAULT_SALIENT_SHARE
from rerank.cache.passage_cache import PassageCache
from rerank.cascade import Budget, cascaded, checked_scores, in_given_order
from rerank.documents.blocks import DEFAULT_BLOCK_TOKENS, DEFAULT_OVERLAP_TOKENS, Cut
from rerank.documents.ranking import DEFAULT_SPANS, RankedDocument, rank_documents
from rerank.highlights import Highlights, highlights
from rerank.prompt.candidates import (
    Candidate,
    Ranked,
    as_candidates,
    as_requests,
    check_top_k,
    ranked,
)
from rerank.prompt.packing import PromptTokens, tokenize
from rerank.prompt.parts import batched, in_parts
from rerank.prompt.requests import prompts_of
from rerank.prompt.template import fill
from rerank.scoring.calibration import calibrated, content_free_texts, with_passages_of
from rerank.scoring.coverage import Covered, covered_scores
from rerank.scoring.coverage_target import Target
from rerank.scoring.groups import grouped_scores
from rerank.scoring.probability import probabilities
from rerank.scoring.scores import LogSums, log_sums, passage_scores, plain_scores, with_unread_last
from rerank.scoring.words import word_scores

DEFAULT_RERANKER = MINI
DEFAULT_MAX_TOKENS = 16_384


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
        """Load a reranker: a local model's name (default `mini`), a folder, or a hub name.

        `dtype` is float32 on a CPU and the checkpoint's own on a GPU, if not given. "auto" takes
        bfloat16 on a CPU that has units for it, where the model was measured to lose nothing;
        "fp8" halves a decoder's linear layers, at a loss: docs/rerank.md has both.
        Raises `ValueError`, in one sentence, when there is no such model or it can't rank.
        """
        backbone = load_backbone(name_or_path or DEFAULT_RERANKER, device=device, dtype=dtype)
        return cls(backbone, max_tokens=max_tokens)

    def rerank(
        self,
        query: str,
        passages: Iterable[Any],
        top_k: int | None = None,
        *,
        cache: PassageCache | None = None,
        first_scores: Iterable[float] | None = None,
        budget_tokens: int | None = None,
        budget_ms: float | None = None,
        coverage: float | None = None,
        coverage_passages: int | None = None,
    ) -> list[Ranked]:
        """Rank `passages` for `query` and return the best `top_k` (None: all).

        With a `cache` that holds the passages, known by their words, only the query is read.
        With a budget only those with the highest `first_scores`, one a passage (None: the cache's,
        or else BM25 over the list), are read, as far as it lasts; the rest stands below them in
        that order: see `rerank.cascade`. `budget_ms` looks at the clock: two runs may differ.
        With a `coverage` a decoder reads to the end only those that a lower layer gives that share
        of the attention, or the best `coverage_passages` there: see `rerank.scoring.coverage`.
        Equal scores are ordered by id. Warns when passages are cut to the model's limit. Raises
        `ValueError` for an empty query, an empty list, a passage without a visible character, bad
        or repeated ids or a `top_k` below 1, and `TypeError` or `ValueError` for wrong types.
        """
        check_top_k(top_k)
        budget = Budget.of(budget_tokens, budget_ms)
        target = Target.of(coverage, coverage_passages)
        if cache is not None and target is not None:
            raise ValueError("coverage with a cache, whose passages are read already: give one")
        if budget is not None:
            found = self._cascaded(query, passages, cache, first_scores, budget, target)
            return found[:top_k]
        if first_scores is not None:
            raise ValueError("first_scores without a budget: give budget_tokens or budget_ms too")
        if cache is not None:
            return cache.rerank_passages(query, passages, top_k)
        return self._ranked([query], [passages], target)[0][:top_k]

    def _cascaded(
        self,
        query: str,
        passages: Iterable[Any],
        cache: PassageCache | None,
        first_scores: Iterable[float] | None,
        budget: Budget,
        target: Target | None,
    ) -> list[Ranked]:
        (query,), (candidates,) = as_requests([query], [passages])
        if first_scores is not None:
            first = checked_scores(first_scores, len(candidates))
        elif cache is not None:
            first = in_given_order(cache.rerank_passages(query, candidates))
        else:
            first = word_scores(query, candidates)

        def rank(asked: str, some: Sequence[Candidate]) -> list[Ranked]:
            return self._ranked([asked], [some], target)[0]

        return cascaded(self, query, candidates, first, budget, rank=rank)

    def cache(
        self,
        passages: Iterable[Any],
        bits: int = DEFAULT_BITS,
        *,
        salient_share: float = DEFAULT_SALIENT_SHARE,
    ) -> PassageCache:
        """Read `passages` once into memory, for many queries: see `PassageCache.of`."""
        return PassageCache.of(self, passages, bits, salient_share=salient_share)

    def rerank_batch(
        self,
        queries: Iterable[str],
        passage_lists: Iterable[Iterable[Any]],
        top_k: int | None = None,
        *,
        coverage: float | None = None,
        coverage_passages: int | None = None,
    ) -> list[list[Ranked]]:
        """`rerank` for several queries, each with its own passages, packed together.

        The scores are those of a call for each query, bit for bit on CPU.
        """
        check_top_k(top_k)
        found = self._ranked(queries, passage_lists, Target.of(coverage, coverage_passages))
        return [results[:top_k] for results in found]

    def _ranked(
        self, queries: Iterable[str], passage_lists: Iterable[Iterable[Any]], target: Target | None
    ) -> list[list[Ranked]]:
        asked, lists = as_requests(queries, passage_lists)
        found = self._scores(asked, lists, target)
        line = self.settings.probability
        return [
            ranked(candidates, scores, probabilities(scores, line), read)
            for candidates, (scores, read) in zip(lists, found, strict=True)
        ]

    def scores(self, query: str, passages: Iterable[Any]) -> list[float]:
        """The score of each passage, in their order; higher is better."""
        return self.scores_batch([query], [passages])[0]

    def scores_batch(
        self, queries: Iterable[str], passage_lists: Iterable[Iterable[Any]]
    ) -> list[list[float]]:
        """The scores of each query's passages, in their order."""
        return [found.scores for found in self._scores(*as_requests(queries, passage_lists))]

    @torch.inference_mode()
    def _scores(
        self,
        queries: Sequence[str],
        candidate_lists: Sequence[Sequence[Candidate]],
        target: Target | None = None,
    ) -> list[Covered]:
        """The scores of queries and candidates that were checked, read as `target` says."""
        prompts = self.prompts(queries, candidate_lists)
        if target is None:
            found = [Covered(scores, [True] * len(scores)) for scores in self._calibrated(prompts)]
        else:
            found = covered_scores(self.backbone, prompts, target, self.max_tokens, self._read)
        unread = [[not block.text_tokens for block in prompt.passages] for prompt in prompts]
        return [
            each._replace(scores=with_unread_last(each.scores, blank, self.settings))
            for each, blank in zip(found, unread, strict=True)
        ]

    def _calibrated(self, prompts: Sequence[PromptTokens]) -> list[list[float]]:
        """The scores of each prompt's passages, less what no query brings them, if so set."""
        if self.settings.calibration == "none" or not prompts:
            return self._read(prompts)
        texts = content_free_texts(self.settings)
        (free,) = tokenize(self.backbone.tokenizer, self.settings, [texts])
        found = self._read([*prompts, *(with_passages_of(free, prompt) for prompt in prompts)])
        pairs = zip(found[: len(prompts)], found[len(prompts) :], strict=True)
        return [calibrated(scores, prior) for scores, prior in pairs]

    def _read(self, prompts: Sequence[PromptTokens]) -> list[list[float]]:
        """The scores of each prompt's passages, before any calibration."""
        scores: list[list[float]] = [[] for _ in prompts]
        parts = []
        for number, prompt in enumerate(prompts):
            if self.settings.score == "mass" and prompt.num_tokens > self.max_tokens:
                attends = self.settings.query_attends
                scores[number] = grouped_scores(prompt, self.max_tokens, self.log_sums, attends)
            else:
                parts += [
                    (number, part) for part in in_parts(prompt, self.settings, self.max_tokens)
                ]
        for batch in batched(parts, self.max_tokens):
            packed = packed_for(self.backbone, [part for _, part in batch])
            found = passage_scores(self.backbone.read(packed), packed, self.settings)
            for (number, _), values in zip(batch, plain_scores(found), strict=True):
                scores[number] += values
        return scores

    def log_sums(self, prompt: PromptTokens) -> LogSums:
        """The log-sum-exps of one prompt that fits `max_tokens`: see `rerank.scoring.groups`."""
        packed = packed_for(self.backbone, [prompt])
        return log_sums(self.backbone.read(packed), packed)

    def rerank_documents(
        self,
        query: str,
        documents: Iterable[Any],
        top_k: int | None = None,
        *,
        num_spans: int = DEFAULT_SPANS,
        block_tokens: int = DEFAULT_BLOCK_TOKENS,
        overlap_tokens: int = DEFAULT_OVERLAP_TOKENS,
    ) -> list[RankedDocument]:
        """Rank `documents` of any length, each with up to `num_spans` places that answer `query`.

        Documents are what passages may be. Their texts are read as a stream of blocks of sentences,
        at most `block_tokens` each, which begin with the last `overlap_tokens` of the one before;
        memory is that of one prompt, beside the texts. See `rerank.documents.ranking`.

        Raises `ValueError` as `rerank` does, but for blank documents, which come last.
        """
        return self.rerank_documents_batch(
            [query],
            documents,
            top_k,
            num_spans=num_spans,
            block_tokens=block_tokens,
            overlap_tokens=overlap_tokens,
        )[0]

    def rerank_documents_batch(
        self,
        queries: Iterable[str],
        documents: Iterable[Any],
        top_k: int | None = None,
        *,
        num_spans: int = DEFAULT_SPANS,
        block_tokens: int = DEFAULT_BLOCK_TOKENS,
        overlap_tokens: int = DEFAULT_OVERLAP_TOKENS,
    ) -> list[list[RankedDocument]]:
        """`rerank_documents` for several queries over the same `documents`.

        Where passages don't see the query (encoders) the documents are read once for all.
        """
        check_top_k(top_k)
        candidates = as_candidates(documents, allow_blank=True)
        cut = Cut(block_tokens, overlap_tokens)
        return rank_documents(self, check_queries(queries), candidates, top_k, cut, num_spans)

    def highlights(self, query: str, passages: Iterable[Any]) -> list[Highlights]:
        """Where in each passage, in their order, the attention falls: see `rerank.highlights`."""
        return highlights(self.backbone, query, as_candidates(passages))

    def token_counts(self, passages: Iterable[Any]) -> list[int]:
        """How many tokens the model reads of each passage, template included."""
        texts = fill(self.settings, "-", as_candidates(passages))
        (prompt,) = tokenize(self.backbone.tokenizer, self.settings, [texts])
        return [len(passage.ids) for passage in prompt.passages]

    def prompts(
        self, queries: Sequence[str], candidate_lists: Sequence[Sequence[Candidate]]
    ) -> list[PromptTokens]:
        """The tokens of each query's prompt; warns of passages that were cut.

        Raises `ValueError` for a query that leaves no room for a passage.
        """
        return prompts_of(
            self.backbone.tokenizer, self.settings, queries, candidate_lists, self.max_tokens
        )
