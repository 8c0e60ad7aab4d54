"""Where in a block the answer stands: the sentences that get more attention than their share.

Enters: a query and a block. Leaves: characters [start, end) of the block's text.

Only tokens of the caller's text count: neither the instruction, where a decoder's attention sink
is, nor the template's own tokens, nor an encoder's special ones.
"""

from collections.abc import Iterable, Sequence

from configs.formats.chunks import Piece, Span, pieces
from rerank.backbones.protocol import Backbone
from rerank.documents.blocks import counter_of
from rerank.highlights import Highlights, highlights
from rerank.prompt.candidates import Candidate

# Longer sentences are parted, so that a text without any still gives a place.
_MOST_TOKENS = 48
# What a sentence beside the best one gets a token, of what that one gets, to be part of the span.
_NEIGHBOURS_SHARE = 0.5


def answer_span(backbone: Backbone, query: str, block: Candidate) -> Span:
    """Where the attention of `query` falls in the text of `block`, which is read alone.

    It is the sentence whose tokens get most above the average of the block's, the first of equal
    ones, and those beside it whose tokens get half as much. So it never depends on other blocks.
    """
    (found,) = highlights(backbone, query, [block])
    parts = list(pieces(block.text, counter_of(backbone), _MOST_TOKENS))
    chosen = _attended(found, parts)
    start, end = parts[chosen[0]].start, parts[chosen[-1]].end
    return Span(start, start + len(block.text[start:end].rstrip()))


def merged(spans: Iterable[tuple[Span, float]]) -> list[tuple[Span, float]]:
    """`spans` and their scores by place, those that overlap made one, with the higher score."""
    found: list[tuple[Span, float]] = []
    for span, score in sorted(spans):
        if found and span.start < found[-1][0].end:
            before, higher = found.pop()
            span, score = Span(before.start, max(before.end, span.end)), max(higher, score)
        found.append((span, score))
    return found


def _attended(found: Highlights, parts: Sequence[Piece]) -> range:
    """The parts that `answer_span` means."""
    masses, counts = [0.0] * len(parts), [0] * len(parts)
    part = 0
    for token in found.tokens:
        if token.field == "text":
            while part + 1 < len(parts) and token.start >= parts[part].end:
                part += 1
            masses[part] += token.mass
            counts[part] += 1
    mean = sum(masses) / max(1, sum(counts))
    best = max(range(len(parts)), key=lambda n: (masses[n] - counts[n] * mean, -n))
    enough = _NEIGHBOURS_SHARE * masses[best] / max(1, counts[best])
    first = last = best
    while first > 0 and masses[first - 1] >= enough * counts[first - 1]:
        first -= 1
    while last + 1 < len(parts) and masses[last + 1] >= enough * counts[last + 1]:
        last += 1
    return range(first, last + 1)
