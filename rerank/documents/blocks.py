"""Documents as a stream of overlapping blocks, each what one passage of a prompt may be.

Enters: documents, as `Candidate`s. Leaves: where each block is, and the passage that it makes.

    [as_block(documents, place).text for place in places_of(backbone, documents, Cut(160, 40))]
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from configs.formats.checks import check_count
from configs.formats.chunks import TokenCounter, chunks
from rerank.backbones.protocol import Backbone
from rerank.prompt.candidates import Candidate, as_candidates
from rerank.prompt.packing import tokenize
from rerank.prompt.template import fill

DEFAULT_BLOCK_TOKENS = 160
DEFAULT_OVERLAP_TOKENS = 40
# No title leaves its document's text less than this of a block.
_FEWEST_TOKENS = 16


class Cut(NamedTuple):
    """Blocks of at most `size` tokens of text, which begin with `overlap` of the one before."""

    size: int = DEFAULT_BLOCK_TOKENS
    overlap: int = DEFAULT_OVERLAP_TOKENS


class Place(NamedTuple):
    """A block: characters [start, end) of the text of document number `document`."""

    document: int
    start: int
    end: int


def as_block(documents: Sequence[Candidate], place: Place) -> Candidate:
    """The block at `place` as a passage: it carries its document's title."""
    document, start, end = place
    text = documents[document].text[start:end]
    return Candidate(f"{document}:{start}", documents[document].title, text, text)


def places_of(backbone: Backbone, documents: Sequence[Candidate], cut: Cut) -> Iterator[Place]:
    """The blocks of `documents` in order; a text without a token has none.

    A block is shorter than `cut.size` where the model reads less of a passage beside its template
    and title: nothing of a text is left out.

    Raises `TypeError` or `ValueError` for sizes that are no counts or do not fit together, and
    `ValueError` for a title that leaves no room.
    """
    check_count("block_tokens", cut.size)
    count = counter_of(backbone)
    for number, document in enumerate(documents):
        size = min(cut.size, _room(backbone, document))
        overlap = cut.overlap if size == cut.size else min(cut.overlap, size // 4)
        for start, end in chunks(document.text, count, size, overlap):
            yield Place(number, start, end)


def counter_of(backbone: Backbone) -> TokenCounter:
    """How many tokens of the model's the texts of a list have, special ones left out."""
    tokenizer: Any = backbone.tokenizer

    def count(texts: list[str]) -> list[int]:
        return [
            len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
        ]

    return count


def _room(backbone: Backbone, document: Candidate) -> int:
    """How many tokens of the document's text one block holds, beside template and title."""
    settings = backbone.settings
    # A letter for the text: the template of a passage without one is another.
    (around,) = as_candidates([document._replace(text="a")])
    (prompt,) = tokenize(backbone.tokenizer, settings, [fill(settings, "-", [around])])
    taken = len(prompt.passages[0].ids)
    room = settings.max_passage_tokens - taken
    if room < _FEWEST_TOKENS:
        raise ValueError(
            f"document {document.id!r}: template and title take {taken} of the "
            f"{settings.max_passage_tokens} tokens of a block (max_passage_tokens), its text needs "
            f"{_FEWEST_TOKENS}: shorten the title"
        )
    return room
