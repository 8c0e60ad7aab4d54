"""Conditions on metadata in the words of SQL, as pyarrow expressions.

Enters: a text and the types of the columns. Leaves: an expression, true for the rows that it keeps;
as in SQL a value that is missing equals nothing, and differs from nothing either.

    parse_where("year >= 2020 and lang in ('en', 'de')", {"year": "integer", "lang": "string"})

    condition:  condition or condition | condition and condition | not condition | ( condition )
                column = == != <> < <= > >= value or column  | column, where it is true or false
                column [not] in (value, ...) | column [not] like 'pattern%' | column is [not] null
    value:      'text' "text" (a quote inside is doubled), 3, -2.5, true, false, and of dates and
                times 'YYYY-MM-DD' or 'YYYY-MM-DD HH:MM:SS' (UTC where the column has a zone)
    column:     its name, or `its name` where that is no word
"""

import operator
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<name>[^\W\d]\w*|`[^`]+`)
    |(?P<sign><=|>=|<>|!=|==|[=<>(),])
    |(?P<end>\Z)
    |(?P<unknown>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"and", "or", "not", "in", "is", "null", "like", "true", "false"}
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBERS = ("integer", "float")
# Far more than people write, and far less than the stack takes: that of this parser, and of Arrow,
# which makes a chain of every `and` and `or` and ends the process at some thousand links.
_DEEPEST, _MOST = 100, 500


def parse_where(text: str, types: Mapping[str, str]) -> pc.Expression:
    """The expression that `text` spells over columns of these `types` (keys of `columns.NAMED`).

    Raises `ValueError` naming the character, and what was wanted there: for text that is no
    condition, for a column that there is not, and for a value that its column can't hold.
    """
    return _Parser(text, types).parse()


class _Token(NamedTuple):
    kind: str
    text: str
    place: int

    @property
    def word(self) -> str:
        """The keyword or sign that it is, "" for none."""
        lower = self.text.lower()
        known = self.kind == "sign" or (self.kind == "name" and lower in _WORDS)
        return lower if known else ""


class _Parser:
    """A recursive descent: a method for each line of the grammar."""

    def __init__(self, text: str, types: Mapping[str, str]) -> None:
        self._text = text
        self._types = types
        self._tokens = [
            _Token(kind, found[kind], found.start(kind))
            for found in _TOKEN.finditer(text)
            for kind in [str(found.lastgroup)]
        ]
        self._next = 0
        self._depth = self._conditions = 0

    def parse(self) -> pc.Expression:
        found = self._any()
        if self._token.kind != "end":
            self._wanted("`and`, `or` or the end")
        return found

    def _any(self) -> pc.Expression:
        found = self._all()
        while self._take("or"):
            found = found | self._all()
        return found

    def _all(self) -> pc.Expression:
        found = self._term()
        while self._take("and"):
            found = found & self._term()
        return found

    def _term(self) -> pc.Expression:
        start = self._token
        if not (negated := self._take("not")) and not self._take("("):
            return self._condition()
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fault(start, f"conditions nest more than {_DEEPEST} deep")
        if negated:
            found = ~self._term()
        else:
            found = self._any()
            self._need(")")
        self._depth -= 1
        return found

    def _condition(self) -> pc.Expression:
        self._conditions += 1
        if self._conditions > _MOST:
            self._fault(self._token, f"more than {_MOST} conditions; for many values, use `in`")
        name, column = self._column("a column")
        if self._take("is"):
            negated = self._take("not")
            self._need("null")
            return column.is_valid() if negated else column.is_null()
        negated = self._take("not")
        if self._take("in"):
            found = self._among(name, column)
        elif self._take("like"):
            found = self._like(name, column)
        elif negated:
            self._wanted("`in` or `like`")
        elif self._token.word in _COMPARISONS:
            found = self._compared(name, column)
        elif self._types[name] == "boolean":
            found = column
        else:
            self._wanted(f"what {name!r} is compared with (=, <, in, like, is null, ...)")
        return ~found if negated else found

    def _compared(self, name: str, column: pc.Expression) -> pc.Expression:
        sign = self._advance()
        kind = self._types[name]
        if kind == "boolean" and _COMPARISONS[sign.word] not in (operator.eq, operator.ne):
            self._fault(sign, f"{name!r} is true or false, which have no order: use = or !=")
        token = self._token
        if token.kind != "name" or token.word:
            value = self._value(name)
            return _unknown() if value is None else _COMPARISONS[sign.word](column, _scalar(value))
        other, its = self._column("a value or a column")
        kinds = {kind, self._types[other]}
        if "unknown" in kinds:
            return _unknown()
        if len(kinds) > 1 and not kinds <= set(_NUMBERS):
            self._fault(token, f"{name!r} is {kind}, {other!r} is {self._types[other]}")
        return _COMPARISONS[sign.word](column, its)

    def _among(self, name: str, column: pc.Expression) -> pc.Expression:
        self._need("(")
        values = [self._value(name)]
        while self._take(","):
            values.append(self._value(name))
        self._need(")")
        if None in values:
            return _unknown()
        if any(isinstance(value, float) for value in values):
            column, values = column.cast(pa.float64()), [float(value) for value in values]
        # Of a missing value Arrow says that it is not among them, SQL that nobody knows.
        return pc.if_else(column.is_valid(), column.isin(pa.array(values)), _unknown())

    def _like(self, name: str, column: pc.Expression) -> pc.Expression:
        if self._token.kind != "string":
            self._wanted("a pattern in quotes (% for any text, _ for one character)")
        if self._types[name] not in ("string", "unknown"):
            self._fault(self._token, f"`like` is for text, and {name!r} is {self._types[name]}")
        pattern = _unquoted(self._advance().text)
        if self._types[name] == "unknown":
            return _unknown()
        return pc.match_like(column, pattern)

    def _column(self, wanted: str) -> tuple[str, pc.Expression]:
        token = self._token
        if token.kind != "name" or token.word:
            self._wanted(wanted)
        name = self._advance().text.strip("`")
        if name not in self._types:
            known = ", ".join(self._types) or "none: build the index with --keep"
            quote = " (text stands in quotes)" if wanted != "a column" else ""
            self._fault(token, f"there is no column {name!r}{quote}; the columns are {known}")
        return name, pc.field(name)

    def _value(self, name: str) -> Any:
        """A value that column `name` may hold; None where nobody knows what it holds."""
        token, kind = self._token, self._types[name]
        if token.word == "null":
            self._fault(token, f"nothing equals null; write `{name} is null`")
        if token.kind not in ("string", "number") and token.word not in ("true", "false"):
            self._wanted("a value: 'text', a number, true or false")
        self._advance()
        if kind == "unknown":
            return None
        text = _unquoted(token.text)
        try:
            if token.kind == "string":
                return _READ_TEXT[kind](text)
            if token.kind == "number" and kind in _NUMBERS:
                return _number(text)
            if token.word and kind == "boolean":
                return token.word == "true"
        except (KeyError, ValueError):
            pass
        hint = _SPELLED.get(kind, "")
        return self._fault(token, f"{name!r} is {kind}, which {token.text:.80} is not{hint}")

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _advance(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _take(self, word: str) -> bool:
        """Go on behind the keyword or sign `word`, if it comes next."""
        found = self._token.word == word
        self._next += found
        return found

    def _need(self, word: str) -> None:
        if not self._take(word):
            self._wanted(f"`{word}`")

    def _wanted(self, what: str) -> NoReturn:
        token = self._token
        found = {"end": "the end", "unknown": f"a stray {token.text}"}.get(token.kind, token.text)
        self._fault(token, f"wanted {what}, got {found:.80}")

    def _fault(self, token: _Token, fault: str) -> NoReturn:
        raise ValueError(f"where {self._text!r:.200}, character {token.place + 1}: {fault}")


def _unknown() -> pc.Expression:
    """Neither true nor false."""
    return pc.scalar(pa.scalar(None, pa.bool_()))


def _scalar(value: Any) -> pc.Expression:
    return pc.scalar(pa.scalar(value))


def _unquoted(text: str) -> str:
    quote = text[:1]
    return text[1:-1].replace(2 * quote, quote) if quote in ("'", '"') else text


def _number(text: str) -> int | float:
    """Whole numbers that need more than 64 bits are compared as others are."""
    whole = not set(text) & set(".eE") and len(text) < 20 and abs(int(text)) < 2**63
    return int(text) if whole else float(text)


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo:
        raise ValueError("its column has no zone")
    return found


def _time_utc(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


_READ_TEXT: dict[str, Callable[[str], Any]] = {
    "string": str,
    "date": date.fromisoformat,
    "time": _time,
    "time UTC": _time_utc,
}
_SPELLED = {
    "date": "; write 'YYYY-MM-DD'",
    "time": "; write 'YYYY-MM-DD' or 'YYYY-MM-DD HH:MM:SS'",
    "time UTC": "; write 'YYYY-MM-DD' or 'YYYY-MM-DD HH:MM:SS', perhaps with '+02:00'",
}
