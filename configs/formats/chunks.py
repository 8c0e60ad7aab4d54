"""Cut a long text into overlapping chunks of whole sentences: where each starts and ends.

Enters: a text, and what counts the tokens of texts. Leaves: [start, end) of each chunk, in
characters; no model is asked for.

    list(chunks("One. Two. Three.", lambda texts: [len(t.split()) for t in texts], size=2))
"""

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

# How many tokens each of several texts has.
TokenCounter = Callable[[list[str]], Sequence[int]]

# A run of marks that end a sentence, with what closes around it. The look-behind lets a run be
# tried at its beginning alone; else a text of a million dots would take the square of that.
_SENTENCE_END = re.compile(
    r"(?<![.!?…؟।])[.!?…؟।]++[\"'”’»)\]]*+(?=\s)"
    r"|[。！？｡][。！？｡]*+[」』”’）》\"']*+"
    r"|(?=\n[^\S\n]*\n)"
)
_VISIBLE = re.compile(r"\S")
# Where a sentence that is too long is cut, the best place first.
_BREAKS = tuple(map(re.compile, (r"\n", r"[,;:]\s|[，、；：]", r"\s")))
# How far from its middle a break is looked for, in characters.
_REACH = 500
# Longer texts are cut before their tokens are counted: one string costs a tokenizer memory.
_MOST_CHARACTERS = 8192
_COUNTED_AT_ONCE = 256
_JOINER = "\u200d"


class Span(NamedTuple):
    """Characters [start, end) of a text."""

    start: int
    end: int


class Piece(NamedTuple):
    """A sentence, or a part of one, at characters [start, end), and its number of tokens.

    `end` is where the next one starts: white space belongs to the piece before it.
    """

    start: int
    end: int
    tokens: int


def chunks(text: str, count: TokenCounter, size: int, overlap: int = 0) -> Iterator[Span]:
    """The chunks of `text` in order, of at most `size` tokens each as `count` counts its pieces.

    A chunk begins with the last sentences of the one before, as few as hold `overlap` tokens, so
    that every stretch of at most `overlap` tokens lies whole in some chunk. A sentence of more than
    half of what overlap leaves is cut at a line break, a comma, a space, or between two characters;
    no character is cut, not of several code points either (an emoji, a letter with its accents),
    so one that has more tokens than that makes a longer chunk. White space around a chunk, and what
    has no token, is left out: a blank text has no chunks. Memory is that of a chunk and a batch.

    Raises `ValueError` for a `size` below 1 and an `overlap` not in [0, size).
    """
    if size < 1:
        raise ValueError(f"size is {size} tokens, wanted at least 1")
    if not 0 <= overlap < size:
        raise ValueError(f"overlap is {overlap} tokens, wanted at least 0 and less than {size}")
    held: deque[Piece] = deque()
    total = 0
    for piece in pieces(text, count, max(1, (size - overlap) // 2)):
        if held and total + piece.tokens > size:
            if total:
                yield _trimmed(text, held[0].start, held[-1].end)
            while held and (total - held[0].tokens >= overlap or total + piece.tokens > size):
                total -= held.popleft().tokens
        held.append(piece)
        total += piece.tokens
    if total:
        yield _trimmed(text, held[0].start, held[-1].end)


def pieces(text: str, count: TokenCounter, most: int) -> Iterator[Piece]:
    """The sentences of `text` in order, those of more than `most` tokens in parts."""
    for batch in _batches(_short(text, sentences(text))):
        counts = count([text[start:end] for start, end in batch])
        for (start, end), tokens in zip(batch, counts, strict=True):
            yield from _divided(text, Piece(start, end, tokens), count, most)


def sentences(text: str) -> Iterator[Span]:
    """The sentences of `text` in order; each ends where the next one starts.

    A sentence ends at its mark (unless a small letter follows, as after "e.g."), at an ideographic
    one, or at a blank line.
    """
    first = _VISIBLE.search(text)
    start = first.start() if first else len(text)
    for found in _SENTENCE_END.finditer(text, start):
        following = _VISIBLE.search(text, found.end())
        if following is None:
            break
        end = following.start()
        goes_on = found[0] and end > found.end() and following[0].islower()
        if found.end() > start and not goes_on and _between_characters(text, start, end):
            yield Span(start, end)
            start = end
    if start < len(text):
        yield Span(start, len(text))


def _batches(spans: Iterable[Span]) -> Iterator[list[Span]]:
    batch: list[Span] = []
    for span in spans:
        batch.append(span)
        if len(batch) == _COUNTED_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _short(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    """`spans`, those of more than `_MOST_CHARACTERS` in parts."""
    for span in spans:
        parts = [span]
        while parts:
            start, end = parts.pop()
            middle = _break(text, start, end) if end - start > _MOST_CHARACTERS else end
            if middle == end:
                yield Span(start, end)
            else:
                parts += [Span(middle, end), Span(start, middle)]


def _divided(text: str, piece: Piece, count: TokenCounter, most: int) -> Iterator[Piece]:
    middle = _break(text, piece.start, piece.end) if piece.tokens > most else piece.end
    if middle == piece.end:
        yield piece
        return
    halves = (Span(piece.start, middle), Span(middle, piece.end))
    counts = count([text[start:end] for start, end in halves])
    for (start, end), tokens in zip(halves, counts, strict=True):
        yield from _divided(text, Piece(start, end, tokens), count, most)


def _break(text: str, start: int, end: int) -> int:
    """Where to cut characters [start, end), near the middle; `end` where nothing can be cut."""
    middle = (start + end) // 2
    reach = min((end - start) // 4, _REACH)
    for pattern in _BREAKS:
        places = [found.end() for found in pattern.finditer(text, middle - reach, middle + reach)]
        places = [place for place in places if _between_characters(text, start, place)]
        if places:
            return min(places, key=lambda place: (abs(place - middle), place))
    for place in (*range(middle, start, -1), *range(middle + 1, end)):
        if _between_characters(text, start, place):
            return place
    return end


def _between_characters(text: str, start: int, place: int) -> bool:
    """Whether a visible character begins at `place`, as people see them; one begins at `start`."""
    before, after = text[place - 1], text[place : place + 1]
    if not after or after.isspace():
        return False
    if before.isascii() and after.isascii():
        return True
    if before == _JOINER or after == _JOINER or unicodedata.category(after)[0] == "M":
        return False
    if "\u1160" <= after <= "\u11ff":  # the middle and the end of a Korean syllable
        return False
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":
        return False  # a skin tone, a flag's tag
    if _is_flag_letter(before) and _is_flag_letter(after):
        run = place
        while run > start and _is_flag_letter(text[run - 1]):
            run -= 1
        return (place - run) % 2 == 0
    return True


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _trimmed(text: str, start: int, end: int) -> Span:
    return Span(start, start + len(text[start:end].rstrip()))
