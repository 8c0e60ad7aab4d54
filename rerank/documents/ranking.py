"""Rank documents of any length, and say where in each the answer stands.

Enters: queries and documents. Leaves: `RankedDocument`s, best first.

    for found in BlockRanker.from_pretrained().rerank_documents("who wrote Faust?", [long_text]):
        print(found.id, found.spans[0].start, found.spans[0].text)
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from configs.formats.checks import check_count
from configs.formats.chunks import Span
from rerank.backbones.protocol import Backbone
from rerank.documents.blocks import Cut, Place, as_block
from rerank.documents.scores import Advance, Reader, scored_blocks
from rerank.documents.spans import answer_span, merged
from rerank.prompt.candidates import Candidate, ranked
from rerank.scoring.scores import with_unread_last
from rerank.warned import BlankPassagesWarning, warn_caller

DEFAULT_SPANS = 3


class AnswerSpan(NamedTuple):
    """Characters [start, end) of a document's text, which are `text`, and their block's score."""

    start: int
    end: int
    score: float
    text: str


class RankedDocument(NamedTuple):
    """A ranked document: its best block's score, its rank from 1 and the one it came with.

    `spans` are where it answers, best first; empty where nothing of it was read.
    """

    id: str
    score: float
    rank: int
    original_rank: int
    spans: tuple[AnswerSpan, ...]
    document: Any


def rank_documents(
    reader: Reader,
    queries: Sequence[str],
    documents: Sequence[Candidate],
    top_k: int | None,
    cut: Cut,
    num_spans: int,
    advance: Advance | None = None,
) -> list[list[RankedDocument]]:
    """For each of `queries` the best `top_k` (None: all) of `documents`, by (score, id).

    A document's score is its best block's. Its spans are found in its best `num_spans` blocks, one
    in each, and those that overlap are one, with the higher score; they stand by (score, start).
    A document without a token is not read: it comes last, as `with_unread_last` says, with a
    `BlankPassagesWarning`. `advance` is told as by `scored_blocks`, which raises the `ValueError`s.
    """
    check_count("num_spans", num_spans)
    # By id, so that not even who of equal blocks comes into a decoder's final is a matter of order.
    order = sorted(range(len(documents)), key=lambda number: documents[number].id)
    documents = [documents[number] for number in order]
    found = scored_blocks(reader, queries, documents, cut, advance)
    blocks: dict[int, list[int]] = defaultdict(list)
    for number, place in enumerate(found.places):
        blocks[place.document].append(number)
    unread = [number not in blocks for number in range(len(documents))]
    if any(unread):
        warn_caller(
            f"{sum(unread)} of {len(documents)} documents have no text to read, and come last",
            BlankPassagesWarning,
        )
    rankings = []
    for query, scores in zip(queries, found.scores, strict=True):
        best = [max((scores[n] for n in blocks[d]), default=0.0) for d in range(len(documents))]
        best = with_unread_last(best, unread, reader.backbone.settings)
        ranking = []
        for each in ranked(documents, best)[:top_k]:
            number = each.original_rank - 1
            chosen = sorted(blocks[number], key=lambda n: (-scores[n], n))[:num_spans]
            places = [(found.places[n], scores[n]) for n in chosen]
            spans = _spans(reader.backbone, query, documents, places)
            given = order[number] + 1
            ranking.append(
                RankedDocument(each.id, each.score, each.rank, given, spans, each.passage)
            )
        rankings.append(ranking)
    return rankings


def _spans(
    backbone: Backbone,
    query: str,
    documents: Sequence[Candidate],
    places: Iterable[tuple[Place, float]],
) -> tuple[AnswerSpan, ...]:
    """The spans of the blocks at `places`, all of one document, with the blocks' scores."""
    spans = []
    text = ""
    for place, score in places:
        start, end = answer_span(backbone, query, as_block(documents, place))
        spans.append((Span(place.start + start, place.start + end), score))
        text = documents[place.document].text
    return tuple(
        AnswerSpan(start, end, score, text[start:end])
        for (start, end), score in sorted(merged(spans), key=lambda each: (-each[1], each[0]))
    )
