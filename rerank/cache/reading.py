"""Scores of queries over passages that were read before: nothing but the queries is new.

Enters: cached states, and queries with the places of their passages. Leaves: a score a passage.
What is asked together is read together: the queries in one forward pass, and a passage's states
once, however many of them ask for it.

    cached_scores(ranker.backbone, cache.states, [Asked("who wrote Faust?", [Place(0, 3)])])
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch

from configs.formats.checks import check_query
from kernels import CachedLayout, CachedRequest
from kernels.host import to_device
from kernels.layout import Span
from rerank.backbones.passage_states import PassageStates
from rerank.backbones.protocol import Backbone
from rerank.cache.identity import CacheIdentity
from rerank.cache.selection import Place, SelectedStates
from rerank.cache.shard import CacheShard
from rerank.prompt.packing import BlockTokens, PackedPrompts, pack, tokenize
from rerank.prompt.template import fill
from rerank.scoring.calibration import calibrated
from rerank.scoring.scores import passage_scores, plain_scores, with_unread_last

# Tokens scored at once, where a score needs no other passage.
_MAX_TOKENS = 1 << 17


class CachedStates(NamedTuple):
    """Shards of passages, the instruction's states by name, and the model that made both."""

    shards: Sequence[CacheShard]
    instruction: Mapping[str, torch.Tensor]
    identity: CacheIdentity

    def length(self, place: Place) -> int:
        """Tokens of the passage at `place`."""
        return int(self.shards[place.shard].lengths[place.passage])


class Asked(NamedTuple):
    """A query and where its passages lie; the same place may come twice."""

    query: str
    places: Sequence[Place]


class _Part(NamedTuple):
    """Some passages, `numbers` in their request's list, of the request `asked`."""

    asked: int
    numbers: list[int]


def cached_scores(
    backbone: Backbone, kept: CachedStates, asked: Sequence[Asked]
) -> list[list[float]]:
    """The scores of each one's passages, in their order, bit for bit on a CPU as if it were alone.

    Raises `ValueError` for an empty query, and one that is longer than the model's limit.
    """
    settings = backbone.settings
    for each in asked:
        check_query(each.query)
    found = _uncalibrated(backbone, kept, asked)
    unread = [[score == -torch.inf for score in scores] for scores in found]
    if settings.calibration != "none":
        free = [each._replace(query=settings.content_free_query) for each in asked]
        found = list(map(calibrated, found, _uncalibrated(backbone, kept, free)))
    pairs = zip(found, unread, strict=True)
    return [with_unread_last(scores, marks, settings) for scores, marks in pairs]


@torch.inference_mode()
def _uncalibrated(
    backbone: Backbone, kept: CachedStates, asked: Sequence[Asked]
) -> list[list[float]]:
    """As `cached_scores`; -inf for passages without a key."""
    scores = [[0.0] * len(each.places) for each in asked]
    whole = backbone.settings.query_attends or backbone.settings.score == "mass"
    for batch in _batches(_parts(kept, asked, whole)):
        some = [
            Asked(asked[part.asked].query, [asked[part.asked].places[n] for n in part.numbers])
            for part in batch
        ]
        for part, values in zip(batch, _read(backbone, kept, some), strict=True):
            for number, value in zip(part.numbers, values, strict=True):
                scores[part.asked][number] = value
    return scores


def _parts(kept: CachedStates, asked: Sequence[Asked], whole: bool) -> Iterator[tuple[_Part, int]]:
    """All of `asked` in parts, and their tokens: `whole` lists, or of bounded size."""
    for number, each in enumerate(asked):
        part, tokens = _Part(number, []), 0
        # In the cache's own order reading goes forward, and no order of the request's can matter.
        for n in sorted(range(len(each.places)), key=each.places.__getitem__):
            length = kept.length(each.places[n])
            if part.numbers and not whole and tokens + length > _MAX_TOKENS:
                yield part, tokens
                part, tokens = _Part(number, []), 0
            part.numbers.append(n)
            tokens += length
        if part.numbers:
            yield part, tokens


def _batches(parts: Iterator[tuple[_Part, int]]) -> Iterator[list[_Part]]:
    """`parts` in order, as many to a batch as have `_MAX_TOKENS` together."""
    batch: list[_Part] = []
    total = 0
    for part, tokens in parts:
        if batch and total + tokens > _MAX_TOKENS:
            yield batch
            batch, total = [], 0
        batch.append(part)
        total += tokens
    if batch:
        yield batch


def _read(backbone: Backbone, kept: CachedStates, asked: Sequence[Asked]) -> list[list[float]]:
    """One pass of the query blocks over the passages of all; -inf for those without a key."""
    places = sorted({place for each in asked for place in each.places})
    states = SelectedStates(*kept, places, backbone.device)
    before = len(next(iter(kept.instruction.values()))) if kept.instruction else 0
    bounds = pairwise(accumulate(states.lengths, initial=before))
    spans = {place: Span(*bound) for place, bound in zip(places, bounds, strict=True)}
    lists = [[spans[place] for place in each.places] for each in asked]
    behind = [before + max(span.length for span in listed) for listed in lists]
    packed, blocks = _queries(backbone, [each.query for each in asked], behind)
    requests = [
        CachedRequest((0, before), listed, own) for listed, own in zip(lists, blocks, strict=False)
    ]
    requests += [CachedRequest((0, 0), [], rest) for rest in blocks[len(lists) :]]
    pool = CachedLayout.build(requests, backbone.device)
    numbers = {place: number for number, place in enumerate(places)}
    owners = to_device(
        torch.tensor([numbers[place] for each in asked for place in each.places]), backbone.device
    )
    vectors = {name: x[owners] for name, x in states.passage_vectors().items()}
    readout = backbone.read_query(packed, PassageStates(states, vectors), pool)
    key_mask = states.key_mask(before)
    counted = torch.cat((torch.zeros(1, dtype=torch.int64), key_mask.cumsum(0)))
    scored = replace(
        packed,
        passages=pool,
        passage_counts=tuple(map(len, lists)),
        key_mask=to_device(key_mask, backbone.device),
        words=states.words(before),
    )
    scores = plain_scores(passage_scores(readout, scored, backbone.settings))
    found = []
    for listed, values in zip(lists, scores, strict=True):
        starts, ends = torch.tensor(listed).unbind(1)
        empty = (counted[starts] == counted[ends]).tolist()
        found.append([-torch.inf if e else v for v, e in zip(values, empty, strict=True)])
    return found


def _queries(
    backbone: Backbone, queries: Sequence[str], behind: Sequence[int]
) -> tuple[PackedPrompts, list[int]]:
    """The packed query blocks, and the lengths of the blocks of their row; padding is the last.

    Where they attend to passages each starts at the model's query position, or else at `behind`.
    """
    settings = backbone.settings
    texts = [fill(settings, query, []) for query in queries]
    prompts = [
        prompt._replace(instruction=BlockTokens([], [], []))
        for prompt in tokenize(backbone.tokenizer, settings, texts)
    ]
    packed = pack(
        prompts,
        replace(settings, query_attends=False),
        pad_id=backbone.pad_id,
        query_position=None,
        device=backbone.device,
    )
    blocks = [len(prompt.query.ids) for prompt in prompts]
    if settings.query_attends:
        fixed = backbone.query_position
        starts = [start if fixed is None else fixed for start in behind]
        positions = packed.positions.clone()
        shifts = torch.tensor(starts).repeat_interleave(torch.tensor(blocks))
        positions[: sum(blocks)] += to_device(shifts, backbone.device)
        packed = replace(packed, positions=positions)
    rest = len(packed.input_ids) - sum(blocks)
    return packed, [*blocks, rest] if rest else blocks
