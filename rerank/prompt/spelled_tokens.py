"""Texts that spell special tokens: what a caller gives is read as text, never as a control token.

Enters: a block's tokens and the characters of its text that the caller gave. Leaves: the same
tokens; or, where a special token such as `<|im_end|>` stands in those characters, the block
tokenized anew with the spelling as plain text and the template's own special tokens kept.

A block is cut at the template's special tokens, where tokenizers cut as well, and the parts are
read with `split_special_tokens`. Added tokens that a tokenizer does not call special (`<think>` of
some models) stay what its authors made them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rerank.prompt.template import Given


class BlockTokens(NamedTuple):
    """One block's token ids, and the [start, end) characters each token came from.

    `windows` are the lengths of the parts of a long passage that are blocks of their own
    (`rerank.prompt.windows`); empty where it is a single one. `words` number the words that tokens
    begin (`rerank.prompt.words`); empty where nothing compares them.
    """

    ids: list[int]
    characters: list[tuple[int, int]]
    special: list[bool]
    windows: tuple[int, ...] = ()
    words: Sequence[int] = ()

    @property
    def text_tokens(self) -> int:
        """How many tokens are not special."""
        return len(self.special) - sum(self.special)


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of all tokens that the tokenizer calls special."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids) | {id_ for id_, token in added if token.special}


def spelled(block: BlockTokens, given: Sequence[Given], special: frozenset[int]) -> list[int]:
    """The places of special tokens that came from the caller's characters."""
    return [
        place
        for place, (id_, (first, last)) in enumerate(zip(block.ids, block.characters, strict=True))
        if id_ in special and any(first < end and last > start for _, start, end in given)
    ]


def as_text(
    tokenizer: Any, text: str, block: BlockTokens, given: Sequence[Given], special: frozenset[int]
) -> BlockTokens:
    """`block`, made from `text`, with spelled special tokens read as plain text."""
    forged = set(spelled(block, given, special))
    # What the tokenizer adds around a text stands for no characters.
    added = [place for place, (first, last) in enumerate(block.characters) if first == last]
    ours = [
        place
        for place, id_ in enumerate(block.ids)
        if id_ in special and place not in forged and place not in added
    ]
    before = [place for place in added if place < len(block.ids) - len(added)]
    cuts = [block.characters[place] for place in ours]
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(text)]
    encoded = tokenizer(
        [text[start:end] for start, end in zip(starts, ends, strict=True)],
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    parts = [_kept(block, before)]
    for number, start in enumerate(starts):
        ids = encoded["input_ids"][number]
        places = [(a + start, b + start) for a, b in encoded["offset_mapping"][number]]
        parts.append(BlockTokens(ids, places, [False] * len(ids)))
        parts.append(_kept(block, ours[number : number + 1]))
    parts.append(_kept(block, added[len(before) :]))
    return BlockTokens(
        [id_ for part in parts for id_ in part.ids],
        [span for part in parts for span in part.characters],
        [mark for part in parts for mark in part.special],
    )


def _kept(block: BlockTokens, places: Sequence[int]) -> BlockTokens:
    return BlockTokens(
        [block.ids[place] for place in places],
        [block.characters[place] for place in places],
        [block.special[place] for place in places],
    )
