"""The columns of metadata that an index keeps: their names, and the one type that each has.

Enters: the metadata of passages, one after the other. Leaves: the same with a value or None for
every column, or a `ValueError` that says which field has a value of another type.

    Columns(["year"]).checked({"year": 2021})  # {"year": 2021}
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any

import numpy as np

from index.records import Value

# A column of which no value was seen yet: the first one decides.
UNKNOWN = "unknown"
NAMED = {
    "string": "a string",
    "integer": "a whole number",
    "float": "a number",
    "boolean": "true or false",
    "date": "a date",
    "time": "a time without a zone",
    "time UTC": "a time with a zone",
    UNKNOWN: "nothing",
}
_INTEGERS = range(-(2**63), 2**63)
# Beyond, a float does not hold every whole number.
_EXACT = 2**53


@dataclass(frozen=True)
class ColumnRecord:
    """A column as the manifest names it; `type` is one of the keys of `NAMED`."""

    name: str
    type: str

    def __post_init__(self) -> None:
        if self.type not in NAMED:
            raise ValueError(f"type is {self.type!r:.80}, wanted one of {', '.join(NAMED)}")


def check_columns(columns: Iterable[ColumnRecord]) -> None:
    """Raise `ValueError` for two columns of one name, or one without a name."""
    names = [column.name for column in columns]
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"columns are {names!r:.200}, wanted names, each once")


class Columns:
    """Some columns, whose types are learned from their values, or known before."""

    def __init__(self, names: Iterable[str] = (), *, known: Sequence[ColumnRecord] = ()) -> None:
        """Those of `names`; or those that are `known`, of an index, whose types stay."""
        self._types = dict.fromkeys(names, UNKNOWN) | {each.name: each.type for each in known}
        self._fixed = {each.name for each in known if each.type != UNKNOWN}

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(self._types)

    def checked(self, metadata: Mapping[str, Any]) -> dict[str, Value]:
        """A value or None for every column; None too where it is NaN.

        Whole numbers may stand among fractions, as JSON spells them, unless a type is known.
        Raises `ValueError`, and learns nothing, for a value of another type or a field that is no
        column.
        """
        for name in metadata:
            if name not in self._types:
                kept = f"keeps {', '.join(self._types)}" if self._types else "keeps no fields"
                raise ValueError(f"the field {name!r} is not kept: the index {kept} (build --keep)")
        values = {name: as_value(name, metadata.get(name)) for name in self._types}
        types, fixed = dict(self._types), set(self._fixed)
        for name, value in values.items():
            found = type_of(value)
            wider = wider_type(types[name], found)
            exact = not isinstance(value, int) or abs(value) <= _EXACT
            if (
                wider is None
                or (name in fixed and wider != types[name])
                or (wider == "float" and not exact)
            ):
                raise ValueError(
                    f"the field {name!r} is {value!r:.80}, {NAMED[found]}; it was "
                    f"{NAMED[types[name]]} before"
                )
            types[name] = wider
            if not exact:
                fixed.add(name)  # else a fraction would have it rounded
        self._types, self._fixed = types, fixed
        return values


def wider_type(one: str, other: str) -> str | None:
    """The type that holds the values of both; None where there is none."""
    if one == other or other == UNKNOWN:
        return one
    if one == UNKNOWN:
        return other
    return "float" if {one, other} == {"integer", "float"} else None


def type_of(value: Value) -> str:
    """The type of a value that `as_value` gave."""
    if isinstance(value, datetime):  # a kind of date, as a bool is a kind of int
        return "time UTC" if value.tzinfo else "time"
    kinds = {str: "string", bool: "boolean", int: "integer", float: "float", date: "date"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), UNKNOWN)


def type_of_all(values: Iterable[Value]) -> str:
    """The type that holds all of the values that `Columns.checked` gave of one column."""
    found = UNKNOWN
    for value in values:
        wider = wider_type(found, type_of(value))
        assert wider, f"{found} and {value!r} in one column"
        found = wider
    return found


def as_value(name: str, value: Any) -> Value:
    """The value of field `name` as it is kept: NaN is None, a time with a zone is in UTC.

    Raises `ValueError` for a value of another kind, and for one that no column can hold.
    """
    if isinstance(value, np.number | np.bool_):
        value = value.item()
    if value != value:  # NaN, and pandas' time that is none
        return None
    if isinstance(value, datetime):
        value = value.astimezone(UTC) if value.tzinfo else value
        return datetime.combine(value.date(), value.timetz())  # pandas' own kind among them
    fault = ""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            fault = "half of a surrogate pair, which is no character, is in it"
    elif isinstance(value, float):
        fault = "" if isfinite(value) else "it is not finite"
    elif isinstance(value, int):
        fault = "" if value in _INTEGERS else "it needs more than 64 bits"
    elif value is not None and not isinstance(value, date):
        fault = f"a {type(value).__name__}, wanted a string, number, true or false, date or time"
    if fault:
        raise ValueError(f"the field {name!r} is {value!r:.80}: {fault}")
    return value
