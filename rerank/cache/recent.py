"""Passages that come again and again: read once, and kept in a bounded number of bytes.

Enters: queries and lists of passages, as many as wait. Leaves: the scores that the ranker gives
them by itself, bit for bit.

    recent = RecentPassages(ranker, num_bytes=1 << 28)
    recent.scores_batch(["who wrote Faust?"], [as_candidates(["Goethe did.", "A pear."])])

Services that answer out of documents send the same ones under many queries. A list of which no text
was met before is left to the ranker, which reads it together with its query: it takes no room, and
costs no more than a digest a text. The texts of all others are kept.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

from rerank.backbones.protocol import Backbone
from rerank.cache import build as cache_build
from rerank.cache.reading import Asked, CachedStates, cached_scores
from rerank.cache.selection import Place
from rerank.cache.shard import CacheShard, apart, digest_of
from rerank.prompt.candidates import Candidate
from rerank.settings.common import RankerSettings

# Fewer would change a score.
_BITS = 32
# So many texts are known to have come once; a digest takes about a hundred bytes.
_MET = 1 << 15


class Ranker(Protocol):
    """What scores lists of passages: a `BlockRanker`."""

    backbone: Backbone
    settings: RankerSettings

    def scores_batch(
        self, queries: Sequence[str], passage_lists: Sequence[Sequence[Candidate]]
    ) -> list[list[float]]:
        """The scores of each query's passages, in their order."""
        ...


def can_keep(backbone: Backbone) -> bool:
    """Whether a passage's score has the same bits from states that were kept.

    So it is on a CPU, where neither a query nor another passage changes what a passage gives.
    """
    settings = backbone.settings
    alone = settings.score == "log_sum_exp" and not settings.passages_see_query
    return alone and backbone.device.type == "cpu"


class RecentPassages:
    """A ranker with the states of the passages that it was asked for last; for one thread."""

    def __init__(self, ranker: Ranker, num_bytes: int) -> None:
        """Keeps at most `num_bytes` of states of a model that `can_keep` them."""
        self.settings = ranker.settings
        self.num_bytes = 0
        self._ranker = ranker
        self._most = num_bytes
        self._begun = cache_build.start(ranker.backbone, _BITS, 0.0)
        self._kept: OrderedDict[str, CacheShard] = OrderedDict()
        self._met: OrderedDict[str, None] = OrderedDict()

    @property
    def num_passages(self) -> int:
        """How many passages are kept."""
        return len(self._kept)

    def scores_batch(
        self, queries: Sequence[str], lists: Sequence[Sequence[Candidate]]
    ) -> list[list[float]]:
        """The scores of each query's passages, in their order.

        Raises `ValueError` for an empty query, and one that is longer than the model's limit.
        """
        digests = [[digest_of(c.title, c.text) for c in listed] for listed in lists]
        found: dict[int, list[float]] = {}
        come_again = self._meet(digests)
        some = [number for number, again in enumerate(come_again) if again]
        if some:
            wanted = {
                digest: candidate
                for number in some
                for digest, candidate in zip(digests[number], lists[number], strict=True)
            }
            asked = [(queries[number], digests[number]) for number in some]
            found |= zip(some, self._from_states(asked, wanted), strict=True)
        rest = [number for number, again in enumerate(come_again) if not again]
        scores = self._ranker.scores_batch([queries[n] for n in rest], [lists[n] for n in rest])
        found |= zip(rest, scores, strict=True)
        return [found[number] for number in range(len(lists))]

    def num_tokens(self, candidates: Sequence[Candidate]) -> int | None:
        """How many tokens `candidates` have, templates included; None where one is not kept."""
        kept = [self._kept.get(digest_of(c.title, c.text)) for c in candidates]
        lengths = [int(shard.lengths[0]) for shard in kept if shard is not None]
        return sum(lengths) if len(lengths) == len(kept) else None

    def _meet(self, digests: Sequence[Sequence[str]]) -> list[bool]:
        """Whether each list has a text that came before, or comes twice in all these lists."""
        counts = Counter(digest for listed in digests for digest in listed)
        again = {d for d, count in counts.items() if count > 1 or d in self._met or d in self._kept}
        for digest in counts:
            self._met[digest] = None
            self._met.move_to_end(digest)
        while len(self._met) > _MET:
            self._met.popitem(last=False)
        return [not again.isdisjoint(listed) for listed in digests]

    def _from_states(
        self, asked: Sequence[tuple[str, Sequence[str]]], wanted: dict[str, Candidate]
    ) -> list[list[float]]:
        """The scores of queries' passages, named by digests; what is not kept is read, once."""
        shards = {digest: self._kept[digest] for digest in wanted if digest in self._kept}
        shards |= self._read(wanted[digest] for digest in wanted if digest not in shards)
        places = {digest: Place(number, 0) for number, digest in enumerate(shards)}
        kept = CachedStates(list(shards.values()), self._begun.states, self._begun.identity)
        scores = cached_scores(
            self._ranker.backbone,
            kept,
            [Asked(query, [places[digest] for digest in listed]) for query, listed in asked],
        )
        self._keep(shards)
        return scores

    def _read(self, candidates: Iterable[Candidate]) -> dict[str, CacheShard]:
        """A shard of its own for each of `candidates`, by digest."""
        shards = cache_build.shards_of(self._ranker.backbone, self._begun, iter(candidates))
        return {one.digests[0]: one for shard in shards for one in apart(shard)}

    def _keep(self, shards: dict[str, CacheShard]) -> None:
        """Keep `shards` as those asked for last, and let go of the first ones."""
        for digest, shard in shards.items():
            if digest not in self._kept:
                self._kept[digest] = shard
                self.num_bytes += shard.num_bytes
            self._kept.move_to_end(digest)
        while self.num_bytes > self._most:
            _, oldest = self._kept.popitem(last=False)
            self.num_bytes -= oldest.num_bytes
