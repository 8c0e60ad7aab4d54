"""What ids and texts must be, wherever they come in: files, arguments, calls.

Enters: an id, a passage's text, a query. Leaves: the fault in words ("" where there is none), or
a `ValueError` in one sentence.

    id_fault("two words")  # "id 'two words' has white space"
"""

import numbers
import unicodedata
from collections.abc import Mapping
from typing import Any

_INVISIBLE = {"Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Mn", "Mc", "Me"}


def id_fault(id_: str) -> str:
    """What is wrong with an id, in words; "" for a good one.

    An id is one word of visible text: TREC files split at white space, C code ends at a NUL, and
    half of a surrogate pair can't be written to any file.
    """
    if not id_:
        return "the id is empty"
    if id_.isprintable() and " " not in id_:
        return ""  # nearly all of them, and soon told
    for character in id_:
        if character.isspace():
            return f"id {id_!r} has white space"
        category = unicodedata.category(character)
        if category == "Cc":
            return f"id {id_!r} has a control character"
        if category == "Cs":
            return f"id {id_!r} has half of a surrogate pair, which is no character"
    return ""


def as_id(value: object) -> str:
    """`value`, a string or a whole number, as an id.

    Raises `ValueError` saying what it is instead, or what is wrong with it.
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str):
        raise ValueError(f"the id is {value!r:.80}, wanted a string or a whole number")
    if fault := id_fault(value):
        raise ValueError(fault)
    return value


def text_fault(text: str) -> str:
    """What keeps `text` from being read by a tokenizer or written to a file; "" if nothing does.

    JSON spells lone surrogates, and arguments that are not UTF-8 arrive as such.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        place = f"at character {error.start + 1}"
        return f"half of a surrogate pair {place}, which is no character: the text is not UTF-8"
    return ""


def is_blank(text: str) -> bool:
    """Whether no character of `text` is visible: white space, controls, marks without a letter.

    Private characters and those that Unicode has not named yet may have a glyph.
    """
    return all(unicodedata.category(character) in _INVISIBLE for character in text)


def check_query(query: object, name: str = "the query") -> None:
    """Raise `TypeError` for a query that is no string, `ValueError` for an empty or broken one."""
    if not isinstance(query, str):
        raise TypeError(f"{name} is {named_type(query)}, wanted a string")
    if fault := text_fault(query):
        raise ValueError(f"{name} has {fault}")
    if is_blank(query):
        raise ValueError(f"{name} is empty: it has no visible character")


def check_queries(queries: object) -> list[str]:
    """`queries`, any iterable, as a list of good ones; a lone string is refused.

    Raises `TypeError` or `ValueError` naming the first bad one, counted from 1.
    """
    listed = as_list("queries", queries, "a list of strings")
    for number, query in enumerate(listed, 1):
        check_query(query, query_name(number, len(listed)))
    return listed


def query_name(number: int, count: int) -> str:
    """What a sentence calls one of `count` queries, numbered from 1."""
    return "the query" if count == 1 else f"query {number} of {count}"


def check_iterable(name: str, value: object, wanted: str) -> None:
    """Raise `TypeError` for a lone string, a dict, or what else gives no items one by one."""
    fault = f"{name} is {named_type(value)}, wanted {wanted}"
    if isinstance(value, str | bytes | Mapping):
        raise TypeError(fault)
    try:
        iter(value)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(fault) from None


def as_list(name: str, value: Any, wanted: str) -> list[Any]:
    """`value`, any iterable, as a list; raises `TypeError` as `check_iterable`."""
    check_iterable(name, value, wanted)
    return list(value)


def check_count(name: str, value: object) -> None:
    """Raise `TypeError` for a `value` that is no whole number, `ValueError` for one below 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {value!r:.80}, wanted a whole number")
    if value < 1:
        raise ValueError(f"{name} is {value}, wanted at least 1")


def named_type(value: object) -> str:
    """What `value` is, for a sentence: "None" or "a float"."""
    return "None" if value is None else f"a {type(value).__name__}"
