"""Passages longer than a block: cut off, or read in several windows that score as one.

Enters: a passage's tokens. Leaves: the tokens that are read, and how they fall into windows.

A window is a block of its own: it does not see the others, each carries an encoder's special
tokens, and all start at the same position. So a passage costs what its tokens cost, no model is
asked for positions it was not trained on, and the beginning is not all that counts.
"""

from itertools import pairwise

from rerank.prompt.spelled_tokens import BlockTokens
from rerank.settings.common import RankerSettings


class PassagesTruncatedWarning(UserWarning):
    """Some passages were longer than the model's settings read."""


def in_windows(block: BlockTokens, settings: RankerSettings) -> BlockTokens:
    """`block`, or what is read of it where it is longer than `max_passage_tokens`.

    An encoder's special tokens around the text close every window; the text between them is cut
    to what `max_windows` hold, and divided into as few windows of equal length, give or take a
    token, as it fits into.
    """
    limit = settings.max_passage_tokens
    if len(block.ids) <= limit:
        return block
    before, after = _around(block) if settings.backbone == "encoder" else (0, 0)
    room = limit - before - after
    if room < 1:
        raise ValueError(
            f"max_passage_tokens is {limit} and the special tokens of a block are "
            f"{before + after}: raise it"
        )
    text = range(before, len(block.ids) - after)[: settings.max_windows * room]
    count = -(-len(text) // room)
    bounds = [len(text) * number // count for number in range(count + 1)]
    first, last = range(before), range(len(block.ids) - after, len(block.ids))
    windows = [[*first, *text[start:end], *last] for start, end in pairwise(bounds)]
    kept = [place for window in windows for place in window]
    return BlockTokens(
        [block.ids[place] for place in kept],
        [block.characters[place] for place in kept],
        [block.special[place] for place in kept],
        tuple(map(len, windows)) if count > 1 else (),
        [block.words[place] for place in kept] if block.words else (),
    )


def _around(block: BlockTokens) -> tuple[int, int]:
    """How many special tokens stand before and behind a block's text."""
    before = next((n for n, special in enumerate(block.special) if not special), 0)
    after = next((n for n, special in enumerate(reversed(block.special)) if not special), 0)
    return before, after
