"""The words of a text as numbers, equal where two words begin alike.

Enters: a text and its tokens' characters. Leaves: a number a token.

    word_keys("Gardens", [(0, 7)]) == word_keys("gardening", [(0, 6), (6, 9)])[:1]

A word goes by its first letters: cutting words off is a stemmer that needs no rules and no
language (McNamee and Mayfield, Information Retrieval 7, 2004). Numbers are a fixed hash, the same
everywhere.
"""

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

# Five, six and seven letters found about as much (docs/mini.md).
_LETTERS = 6
_WORD = re.compile(r"[^\W_]+")
# 31 bits: an int32 holds it, and 0 stays free for "no word".
_BITS = 0x7FFFFFFF
NO_WORD = 0


@lru_cache(maxsize=1 << 16)
def word_key(word: str) -> int:
    """The number of `word`, from 1 to 2**31 - 1."""
    return zlib.crc32(word.lower()[:_LETTERS].encode(errors="surrogatepass")) & _BITS or 1


def text_keys(text: str) -> list[int]:
    """The numbers of the words of `text`, in order."""
    return [word_key(found[0]) for found in _WORD.finditer(text)]


def word_keys(text: str, characters: Sequence[tuple[int, int]]) -> list[int]:
    """For each token of `text`, which stands at `characters` [start, end): its word's number.

    A word belongs to the token it begins in; the others of its tokens, and those of no word, get
    `NO_WORD`. Tokens are in the order of the text, but for empty ones.
    """
    found = {word.start(): word_key(word[0]) for word in _WORD.finditer(text)}
    if found.keys() <= {start for start, end in characters if start < end}:
        # Every word begins where a token does, as most tokenizers have it.
        return [found.get(start, NO_WORD) if start < end else NO_WORD for start, end in characters]
    return _searched(text, characters)


def _searched(text: str, characters: Sequence[tuple[int, int]]) -> list[int]:
    """`word_keys` of tokens that words may begin within."""
    keys = [NO_WORD] * len(characters)
    words = _WORD.finditer(text)
    word = next(words, None)
    for place, (start, end) in enumerate(characters):
        while word is not None and word.start() < start:
            word = next(words, None)
        if word is not None and start <= word.start() < end:
            keys[place] = word_key(word[0])
    return keys
