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


def answer_span(backbone: Backbone, query: str, block: Candidate) -> Span:
    """Where the attention of `query` falls in the text of `block`, which is read alone.

    Of all runs of sentences it is the one whose tokens get most above the average of the block's
    tokens; the first and shortest of equal ones. So it never depends on other blocks.
    """
    (found,) = highlights(backbone, query, [block])
    parts = list(pieces(block.text, counter_of(backbone), _MOST_TOKENS))
    first, last = _richest(_excess(found, parts))
    start, end = parts[first].start, parts[last].end
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


def _excess(found: Highlights, parts: Sequence[Piece]) -> list[float]:
    """What each part gets above the average of the text's tokens."""
    masses, counts = [0.0] * len(parts), [0] * len(parts)
    part = 0
    for token in found.tokens:
        if token.field == "text":
            while part + 1 < len(parts) and token.start >= parts[part].end:
                part += 1
            masses[part] += token.mass
            counts[part] += 1
    mean = sum(masses) / max(1, sum(counts))
    return [mass - count * mean for mass, count in zip(masses, counts, strict=True)]


def _richest(values: Sequence[float]) -> tuple[int, int]:
    """The first and last place of the run with the highest sum (Kadane's algorithm)."""
    best, chosen = -float("inf"), (0, 0)
    total, first = 0.0, 0
    for place, value in enumerate(values):
        if total <= 0:
            total, first = 0.0, place
        total += value
        if total > best:
            best, chosen = total, (first, place)
    return chosen
