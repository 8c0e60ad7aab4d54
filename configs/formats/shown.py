"""Text as a terminal may show it: what a stranger wrote moves no cursor and turns no line round.

Enters: any text. Leaves: the same with control characters, escape sequences, direction overrides,
invisible format characters and lone surrogates spelled out.

    shown("red \\x1b[31m")  # the escape as four visible characters
"""

import unicodedata
from collections.abc import Sequence

_ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Joiners shape letters and emoji, and can do nothing else.
_JOINERS = "\u200c\u200d"


def shown(text: str) -> str:
    """`text` with what is not for the eye escaped as Python spells it; other text is unchanged."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def shown_line(text: str) -> str:
    """`shown`, after every run of white space has become one space: for a cell of a table."""
    return shown(" ".join(text.split()))


def snippet(text: str, length: int = 100) -> str:
    """The first `length` characters of `text` as `shown_line` shows them, "…" if there are more."""
    line = " ".join(text.split())
    return shown(line if len(line) <= length else f"{line[:length]}…")


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first of `names`, for a sentence that has said how many there are."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _shown(character: str) -> str:
    if unicodedata.category(character) in _ESCAPED and character not in _JOINERS:
        return character.encode("unicode_escape").decode("ascii")
    return character
