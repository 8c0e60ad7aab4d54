"""The scores of documents' blocks, read as a stream in the memory of one prompt.

Enters: documents, and a query or several. Leaves: where each block is, and a score a query.

- `score: log_sum_exp`. No block's score depends on another one: blocks are scored as they come, and
  where they don't see the query they are read once for all queries.
- `score: mass`. A block's score is its share of the attention to all blocks of all documents. They
  are read in groups, each of one document; of a group only the log-sum-exps stay, and in the end
  all go under one softmax. Then, where the query attends to them, the best, as many as one prompt
  holds, are read together once more. `rerank.scoring.groups` does the same with a list and says
  what is exact in it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Any, NamedTuple, Protocol

import torch

from rerank.backbones.protocol import Backbone
from rerank.cache import build as cache_build
from rerank.cache.reading import Asked, CachedStates, cached_scores
from rerank.cache.selection import Place as CachedPlace
from rerank.documents.blocks import Cut, Place, as_block, places_of
from rerank.documents.free_pages import give_back_free_pages
from rerank.prompt.candidates import Candidate
from rerank.prompt.packing import BlockTokens, PromptTokens, tokenize
from rerank.scoring.calibration import calibrated, content_free_texts
from rerank.scoring.groups import finalists, shared_out, union_scores
from rerank.scoring.scores import LogSums, mass_scores

# As exact as without a cache, and gone when the next ones are read.
_BITS = 32
_SCORED_AT_ONCE = 64
# Tokens of blocks that a forward pass reads, where none sees another: more take memory and no less
# time.
_READ_AT_ONCE = 4096
# Is given how many characters were read since it was last called.
Advance = Callable[[int], object]


class Reader(Protocol):
    """What scores blocks: a reranker."""

    max_tokens: int

    @property
    def backbone(self) -> Backbone:
        """The model that it reads with."""
        ...

    def scores(self, query: str, passages: Iterable[Any]) -> list[float]:
        """The score of each passage."""
        ...

    def prompts(
        self, queries: Sequence[str], candidate_lists: Sequence[Sequence[Candidate]]
    ) -> list[PromptTokens]:
        """The tokens of each query's prompt; refuses a query that leaves no room."""
        ...

    def log_sums(self, prompt: PromptTokens) -> LogSums:
        """The log-sum-exps of a prompt that fits `max_tokens`."""
        ...


class Scored(NamedTuple):
    """The `places` of all blocks in order, and `scores`, for each query one a block."""

    places: list[Place]
    scores: list[list[float]]


class _Stream:
    """The blocks of documents, cut as they are asked for, and the `places` of those so far."""

    def __init__(
        self,
        backbone: Backbone,
        documents: Sequence[Candidate],
        cut: Cut,
        advance: Advance | None = None,
    ) -> None:
        self.documents = documents
        self.places: list[Place] = []
        self._cut = places_of(backbone, documents, cut)
        self._advance = advance
        self._starts = [0, *accumulate(len(document.text) for document in documents)]
        self._told = 0

    def blocks(self) -> Iterator[Candidate]:
        """Each block once, in order."""
        for place in self._cut:
            self.places.append(place)
            yield self.block(place)

    def block(self, place: Place) -> Candidate:
        """The block at `place`."""
        return as_block(self.documents, place)

    def was_read(self, count: int) -> None:
        """Tell that the first `count` blocks were read."""
        if self._advance is not None and count:
            place = self.places[count - 1]
            read = self._starts[place.document] + place.end
            self._advance(read - self._told)
            self._told = read


def scored_blocks(
    reader: Reader,
    queries: Sequence[str],
    documents: Sequence[Candidate],
    cut: Cut,
    advance: Advance | None = None,
) -> Scored:
    """Cut `documents` into blocks and score them; memory grows by a few numbers a block.

    `advance` is told of the characters of the documents as they are read: once, or once a query
    where each reads its own copy. Raises `ValueError` as `places_of` does, and for a query
    that leaves no room for a block.
    """
    settings = reader.backbone.settings
    reader.prompts(queries, [[]] * len(queries))  # a bad query is refused before anything is read

    def stream() -> _Stream:
        return _Stream(reader.backbone, documents, cut, advance)

    if settings.score == "mass":
        each = [_shared(reader, query, stream()) for query in queries]
        return Scored(each[0].places, [found.scores[0] for found in each])
    score = _seen_by if settings.passages_see_query else _read_once
    return score(reader, queries, stream())


def _read_once(reader: Reader, queries: Sequence[str], stream: _Stream) -> Scored:
    """Blocks that no query changes, a shard of a passage cache at a time."""
    found = Scored(stream.places, [[] for _ in queries])
    begun = cache_build.start(reader.backbone, _BITS, cache_build.DEFAULT_SALIENT_SHARE)
    begun = begun._replace(shard_tokens=min(reader.max_tokens, _READ_AT_ONCE))
    backbone = reader.backbone
    for shard in cache_build.shards_of(backbone, begun, stream.blocks()):
        kept = CachedStates([shard], begun.states, begun.identity)
        blocks = [CachedPlace(0, number) for number in range(len(shard.ids))]
        asked = [Asked(query, blocks) for query in queries]
        for scores, more in zip(found.scores, cached_scores(backbone, kept, asked), strict=True):
            scores += more
        stream.was_read(len(found.scores[0]))
        # Not to be held while the next one is read.
        del shard, kept
        give_back_free_pages()
    return found


def _seen_by(reader: Reader, queries: Sequence[str], stream: _Stream) -> Scored:
    """Blocks that see the query, but no other block."""
    found = Scored(stream.places, [[] for _ in queries])
    blocks = stream.blocks()
    while some := list(islice(blocks, _SCORED_AT_ONCE)):
        for query, scores in zip(queries, found.scores, strict=True):
            scores += reader.scores(query, some)
        stream.was_read(len(stream.places))
        give_back_free_pages()
    return found


@torch.inference_mode()
def _shared(reader: Reader, query: str, stream: _Stream) -> Scored:
    """Shares of all blocks' attention for one query, less those for the content-free one if so set.

    Groups and the final are run for each of the two, as for a list.
    """
    backbone, settings = reader.backbone, reader.backbone.settings
    asked = reader.prompts([query], [[]])
    if settings.calibration != "none":
        asked += tokenize(backbone.tokenizer, settings, [content_free_texts(settings)])
    budget = reader.max_tokens - max(prompt.num_tokens for prompt in asked)
    sums: list[list[LogSums]] = [[] for _ in asked]
    places = stream.places
    lengths: list[int] = []
    for group in _groups(backbone, stream, budget):
        lengths += [len(block.ids) for block in group]
        for prompt, found in zip(asked, sums, strict=True):
            found.append(reader.log_sums(prompt._replace(passages=group)))
        stream.was_read(len(lengths))
        give_back_free_pages()
    if not places:
        return Scored([], [[]])

    def after_final(prompt: PromptTokens, found: list[LogSums]) -> list[float]:
        merged = dict(enumerate(union_scores(found)))
        chosen = finalists(range(len(places)), merged, lengths, budget)
        if settings.query_attends and len(found) > 1 and len(chosen) > 1:
            blocks = (stream.block(places[number]) for number in chosen)
            pairs = cache_build.tokenized(backbone, blocks)
            final = reader.log_sums(prompt._replace(passages=[block for _, block in pairs]))
            masses = dict(zip(chosen, mass_scores(final).tolist(), strict=True))
            merged |= shared_out(merged, masses)
        return [merged[number] for number in range(len(places))]

    scores = [after_final(prompt, found) for prompt, found in zip(asked, sums, strict=True)]
    return Scored(places, [scores[0] if len(scores) == 1 else calibrated(*scores)])


def _groups(backbone: Backbone, stream: _Stream, budget: int) -> Iterator[list[BlockTokens]]:
    """Blocks in order, as many as `budget` tokens hold, none with those of another document.

    So no document's groups depend on the others, nor on their order.
    """
    group: list[BlockTokens] = []
    tokens = 0
    places = stream.places
    for number, (_, block) in enumerate(cache_build.tokenized(backbone, stream.blocks())):
        first = number == 0 or places[number].document != places[number - 1].document
        if group and (first or tokens + len(block.ids) > budget):
            yield group
            group, tokens = [], 0
        group.append(block)
        tokens += len(block.ids)
    if group:
        yield group
