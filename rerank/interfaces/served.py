"""The reranker as a service calls one: texts without ids in, scores and token counts out.

Enters: the name of a model. Leaves: a `ServedReranker`: what the entry point `blockrank` of the
group `blockseek.rerankers` gives a service (`retrieval/serving/reranker.py` says what it asks for).

    reranker = open_reranker("mini")
    reranker.rerank_batch(["who wrote Faust?"], [[{"text": "A pear."}, {"text": "Goethe did."}]])
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rerank.cache.passage_cache import PassageCache
from rerank.cache.recent import RecentPassages, can_keep
from rerank.highlights import Highlights
from rerank.interfaces.by_place import scores_with_blanks
from rerank.prompt.candidates import Candidate, as_candidates
from rerank.prompt.packing import tokenize
from rerank.prompt.template import fill
from rerank.ranker import BlockRanker
from rerank.scoring.probability import probabilities

Document = Mapping[str, str]


class PassageScores(NamedTuple):
    """What one query's documents get, in their order.

    `relevance` is a probability where the model's settings map scores to one (0 for a document
    without a visible character), else the score itself.
    """

    scores: list[float]
    relevance: list[float]


def open_reranker(model: str, *, device: str | None = None) -> "ServedReranker":
    """Load the reranker `model`: a local model's name, a folder or a hub name.

    Raises `ValueError`, in one sentence, when there is no such model or it can't rank.
    """
    return ServedReranker(BlockRanker.from_pretrained(model, device), Path(model).name)


class ServedReranker:
    """A loaded reranker under the name that it is served by, perhaps with passages read before."""

    def __init__(
        self,
        ranker: BlockRanker,
        name: str,
        cache: PassageCache | None = None,
        recent: RecentPassages | None = None,
    ) -> None:
        self.name = name
        self._ranker = ranker
        self._cache = cache
        self._recent = recent

    @property
    def cached_passages(self) -> int:
        """How many passages' states are at hand: 0 without a cache."""
        return 0 if self._cache is None else len(self._cache)

    def with_cache(self, folder: Path) -> "ServedReranker":
        """The same reranker over the cache in `folder`, which it reads where a list is all in it.

        Raises `ValueError` when there is none, or another model or other settings made it.
        """
        cache = PassageCache.open(self._ranker, folder)
        return ServedReranker(self._ranker, self.name, cache, self._recent)

    def keeping(self, num_bytes: int) -> "ServedReranker":
        """The same reranker, which keeps what it read of texts that come again, in `num_bytes`.

        Where that could change a bit of a score it is this one.
        """
        if num_bytes <= 0 or not can_keep(self._ranker.backbone):
            return self
        recent = RecentPassages(self._ranker, num_bytes)
        return ServedReranker(self._ranker, self.name, self._cache, recent)

    def rerank_batch(
        self, queries: Sequence[str], document_lists: Sequence[Sequence[Document]]
    ) -> list[PassageScores]:
        """The scores of each query's documents, bit for bit on a CPU as if it were alone.

        The same text may come twice in a list. Raises `ValueError` for an empty query and for what
        is no text.
        """
        lists = [as_candidates(documents, allow_blank=True) for documents in document_lists]
        found: dict[int, list[float]] = {}
        if self._cache is not None:
            kept = [number for number, each in enumerate(lists) if self._cache.holds(each)]
            scores = self._cache.scores_batch([queries[n] for n in kept], [lists[n] for n in kept])
            found = dict(zip(kept, scores, strict=True))
        read = [number for number in range(len(lists)) if number not in found]
        scores = scores_with_blanks(
            self._recent or self._ranker, [queries[n] for n in read], [lists[n] for n in read]
        )
        found |= dict(zip(read, scores, strict=True))
        return [
            PassageScores(found[number], self._relevance(found[number], candidates))
            for number, candidates in enumerate(lists)
        ]

    def count_tokens(self, query: str, documents: Sequence[Document]) -> int:
        """How many tokens a rerank of `documents` for `query` reads without a cache."""
        candidates = as_candidates(documents, allow_blank=True)
        read = [candidate for candidate in candidates if not candidate.is_blank]
        if not read:
            return 0
        known = self._known_tokens(read)
        texts = fill(self._ranker.settings, query, read if known is None else [])
        (prompt,) = tokenize(self._ranker.backbone.tokenizer, self._ranker.settings, [texts])
        return prompt.num_tokens + (known or 0)

    def highlights(self, query: str, documents: Sequence[Document]) -> list[Highlights]:
        """Where in each document the attention falls: see `rerank.highlights`."""
        return self._ranker.highlights(query, documents)

    def cut(self, document: Document, max_tokens: int | None) -> Document:
        """`document` with no more of its text than `max_tokens` tokens, template aside."""
        text = document.get("text", "")
        if max_tokens is None or len(text) <= max_tokens:
            return document  # a token has a character at least
        encoded = self._ranker.backbone.tokenizer(
            text,
            add_special_tokens=False,
            truncation=True,
            max_length=max_tokens,
            return_offsets_mapping=True,
            verbose=False,
        )
        ends = [end for _, end in encoded["offset_mapping"]]
        return {**document, "text": text[: max(ends, default=0)]}

    def _known_tokens(self, candidates: Sequence[Candidate]) -> int | None:
        """How many tokens `candidates` have, where that is known without their words."""
        if self._cache is not None and self._cache.holds(candidates):
            return self._cache.num_tokens(candidates)
        return None if self._recent is None else self._recent.num_tokens(candidates)

    def _relevance(self, scores: list[float], candidates: Sequence[Candidate]) -> list[float]:
        mapped = probabilities(scores, self._ranker.settings.probability)
        if mapped is None:
            return scores
        pairs = zip(candidates, mapped, strict=True)
        return [0.0 if candidate.is_blank else value for candidate, value in pairs]
