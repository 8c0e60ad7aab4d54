"""Numbers as text files spell them, strictly: what Python would take as well is not all one.

Enters: a column. Leaves: a number, or None where it spells none.

    whole_number("1_0")  # None: Python's own spelling of 10, and nobody else's
"""

import math

_INT32 = 2**31


def whole_number(text: str) -> int | None:
    """The whole number of at most 32 bits that `text` spells in decimal digits, perhaps signed."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        return None
    value = int(text)
    return value if -_INT32 <= value < _INT32 else None


def finite_number(text: str) -> float | None:
    """The finite number that `text` spells, with a point and an exponent if need be."""
    if "_" in text or not text.isascii():
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
