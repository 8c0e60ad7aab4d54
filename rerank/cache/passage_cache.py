"""Passages read once: a rerank over them runs the query block alone.

Enters: a reranker and a cache of passages, in memory or memory-mapped from a folder. Leaves:
rankings, as the reranker gives them without a cache.

    cache = BlockRanker.from_pretrained().cache(["Goethe wrote Faust.", "A pear."], bits=16)
    cache.rerank("who wrote Faust?")
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from configs.formats.checks import as_id, as_list, check_iterable
from rerank.backbones.protocol import Scorer
from rerank.cache import build as cache_build
from rerank.cache.build import DEFAULT_BITS, DEFAULT_SALIENT_SHARE
from rerank.cache.files import Manifest, read_files, read_manifest
from rerank.cache.files import verify as verify_files
from rerank.cache.identity import CacheIdentity, check_identity
from rerank.cache.reading import Asked, CachedStates, cached_scores
from rerank.cache.selection import Place
from rerank.cache.shard import CacheShard, digest_of
from rerank.prompt.candidates import Candidate, Ranked, as_candidates, check_top_k, ranked
from rerank.scoring.probability import probabilities


class PassageCache:
    """Passages' states and the reranker that made them.

    In 32 bits scores equal those without a cache; fewer bits deviate (docs/rerank.md tells how
    far). As without a cache, scores are the same for any order of the passages.
    """

    def __init__(
        self,
        ranker: Scorer,
        shards: Sequence[CacheShard],
        instruction: Mapping[str, torch.Tensor],
        identity: CacheIdentity,
    ) -> None:
        """Made by `of`, `build` or `open`; `ranker` is whatever scores with a backbone."""
        self.ranker = ranker
        self.backbone = ranker.backbone
        self.shards = tuple(shards)
        self.instruction = instruction
        self.identity = identity

    @classmethod
    def of(
        cls,
        ranker: Scorer,
        passages: Iterable[Any],
        bits: int = DEFAULT_BITS,
        *,
        salient_share: float = DEFAULT_SALIENT_SHARE,
    ) -> "PassageCache":
        """Read `passages` into memory, kept in 32, 16, 8, 6 or 4 `bits`
        (`rerank.cache.precision`).

        In 4 bits the share `salient_share` of every passage's tokens keeps 8. Raises `ValueError`
        for passages that a ranking would refuse, and where passages see the query.
        """
        check_iterable("passages", passages, "a list of passages")
        begun = cache_build.start(ranker.backbone, bits, salient_share)
        candidates = cache_build.checked(passages)
        shards = list(cache_build.shards_of(ranker.backbone, begun, candidates))
        if not shards:
            raise ValueError("no passages to cache")
        return cls(ranker, shards, begun.states, begun.identity)

    @classmethod
    def build(
        cls,
        ranker: Scorer,
        passages: Iterable[Any],
        out: Path | str,
        bits: int = DEFAULT_BITS,
        *,
        salient_share: float = DEFAULT_SALIENT_SHARE,
    ) -> "PassageCache":
        """Build a cache in the folder `out` and open it; memory stays below two shards.

        `passages` may be any iterable; a killed build goes on when it is called again with the
        same ones. Raises `ValueError` as `of`, and where `out` holds something else.
        """
        check_iterable("passages", passages, "a list of passages")
        cache_build.build(ranker.backbone, passages, Path(out), bits, salient_share)
        return cls.open(ranker, out)

    @classmethod
    def open(cls, ranker: Scorer, folder: Path | str, *, verify: bool = False) -> "PassageCache":
        """Open the cache in `folder`; `verify` recomputes its checksums.

        Raises `ValueError` when there is none, when it is broken, or when another model or other
        settings made it.
        """
        folder = Path(folder)
        manifest: Manifest = verify_files(folder) if verify else read_manifest(folder)
        identity = manifest.identity
        own = cache_build.start(ranker.backbone, identity.bits, identity.salient_share).identity
        check_identity(identity, own, str(folder))
        return cls(ranker, *read_files(folder, manifest), identity)

    def __len__(self) -> int:
        """The number of passages."""
        return sum(len(shard.ids) for shard in self.shards)

    @property
    def states(self) -> CachedStates:
        """What a query reads."""
        return CachedStates(self.shards, self.instruction, self.identity)

    @property
    def ids(self) -> list[str]:
        """The passages' ids, in the order they came in."""
        return [id_ for shard in self.shards for id_ in shard.ids]

    @property
    def num_bytes(self) -> int:
        """What the states take, in memory or on disk."""
        kept = sum(x.nbytes for x in self.instruction.values())
        return kept + sum(shard.num_bytes for shard in self.shards)

    def rerank(
        self, query: str, ids: Iterable[str] | None = None, top_k: int | None = None
    ) -> list[Ranked]:
        """Rank the passages `ids` (None: all) for `query`; a `Ranked`'s passage is its id.

        Raises `ValueError` for an id that the cache does not hold, for repeated ones, and as
        `BlockRanker.rerank` does.
        """
        wanted = self.ids if ids is None else _as_ids(ids)
        # A cache keeps no words: a candidate's text is here what it is known by.
        candidates = as_candidates(Candidate(id_, "", id_, id_) for id_ in wanted)
        return self._ranked(query, candidates, [self._place(id_) for id_ in wanted], top_k)

    def rerank_passages(
        self, query: str, passages: Iterable[Any], top_k: int | None = None
    ) -> list[Ranked]:
        """As `BlockRanker.rerank`: `passages` are found in the cache by their words."""
        candidates = as_candidates(passages)
        return self._ranked(query, candidates, [self._place_of(c) for c in candidates], top_k)

    def scores(self, query: str, ids: Iterable[str]) -> list[float]:
        """The score of each of the passages `ids`, in their order; higher is better."""
        return self._scores(query, [self._place(id_) for id_ in _as_ids(ids)])

    def holds(self, candidates: Iterable[Candidate]) -> bool:
        """Whether the words of every one of `candidates` are in the cache."""
        return all(digest_of(each.title, each.text) in self._by_words for each in candidates)

    def scores_batch(
        self, queries: Sequence[str], candidate_lists: Sequence[Sequence[Candidate]]
    ) -> list[list[float]]:
        """The scores of each query's candidates, known by their words, in their order.

        They are those of a call for each query, bit for bit on CPU; what several queries ask for is
        read once.
        """
        pairs = zip(queries, candidate_lists, strict=True)
        asked = [Asked(query, [self._place_of(c) for c in listed]) for query, listed in pairs]
        return cached_scores(self.backbone, self.states, asked)

    def num_tokens(self, candidates: Iterable[Candidate]) -> int:
        """How many tokens `candidates`, known by their words, have, templates included."""
        return sum(self.states.length(self._place_of(candidate)) for candidate in candidates)

    def _ranked(
        self, query: str, candidates: Sequence[Candidate], places: list[Place], top_k: int | None
    ) -> list[Ranked]:
        check_top_k(top_k)
        scores = self._scores(query, places)
        slope_and_intercept = self.backbone.settings.probability
        return ranked(candidates, scores, probabilities(scores, slope_and_intercept))[:top_k]

    def _scores(self, query: str, places: Sequence[Place]) -> list[float]:
        (scores,) = cached_scores(self.backbone, self.states, [Asked(query, places)])
        return scores

    def _place(self, id_: str) -> Place:
        try:
            return self._by_id[id_]
        except KeyError:
            raise ValueError(
                f"passage {id_!r} is not in the cache, which holds {len(self)} passages"
            ) from None

    def _place_of(self, candidate: Candidate) -> Place:
        place = self._by_words.get(digest_of(candidate.title, candidate.text))
        if place is not None:
            return place
        known = candidate.id in self._by_id
        state = "has other words than in the cache" if known else "is not in the cache"
        raise ValueError(f"passage {candidate.id!r} {state}; build it again with this passage")

    @cached_property
    def _by_id(self) -> dict[str, Place]:
        return {
            id_: Place(number, passage)
            for number, shard in enumerate(self.shards)
            for passage, id_ in enumerate(shard.ids)
        }

    @cached_property
    def _by_words(self) -> dict[str, Place]:
        return {
            digest: Place(number, passage)
            for number, shard in enumerate(self.shards)
            for passage, digest in enumerate(shard.digests)
        }


def _as_ids(ids: Iterable[str]) -> list[str]:
    return [as_id(id_) for id_ in as_list("ids", ids, "a list of passages' ids")]
