"""Read a record that JSON holds, perhaps a stranger's: every field there, of its type, no other.

Enters: a JSON file and a dataclass. Leaves: the dataclass, whose `__post_init__` knows its ranges.

    from_json(ShardRecord, read_json(Path("shard-00000.json")))
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Record = TypeVar("Record")
_DIGEST = re.compile("[0-9a-f]{64}")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises `ValueError` when it holds no JSON that can be read, `OSError` when there is no file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} nests too deeply") from None


def from_json(kind: type[Record], values: object, where: str = "") -> Record:
    """A `kind` from the object that its `asdict` gave; `where` stands before a field's name.

    Raises `ValueError` naming the field that is missing, unknown, or of another type or range.
    """
    assert is_dataclass(kind)
    if not isinstance(values, Mapping):
        raise ValueError(f"{where.rstrip('.') or 'it'} is {values!r:.40}, wanted an object")
    types_of, needed = _fields(kind)
    for name in (*sorted(needed - set(values)), *sorted(set(values) - set(types_of))):
        raise ValueError(f"{where}{name} is {'missing' if name in needed else 'unknown'}")
    checked = {name: _checked(types_of[name], x, f"{where}{name}") for name, x in values.items()}
    try:
        return kind(**checked)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


@cache
def _fields(kind: type) -> tuple[dict[str, Any], frozenset[str]]:
    """The type of each field, and which fields have no default: slow to find, often asked."""
    needed = frozenset(field.name for field in fields(kind) if field.default is MISSING)
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}, needed


def check_ranges(record: object, **ranges: tuple[float, float]) -> None:
    """Raise `ValueError` unless each named field lies within its bounds, both allowed."""
    for name, (least, most) in ranges.items():
        value = getattr(record, name)
        if not least <= value <= most:
            wanted = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise ValueError(f"{name} is {value}, wanted {wanted}")


def check_digests(record: object, *names: str) -> None:
    """Raise `ValueError` unless each named field is a SHA-256 in hexadecimal."""
    check_digest_texts({name: getattr(record, name) for name in names})


def check_digest_texts(texts: Mapping[str, str]) -> None:
    """Raise `ValueError`, naming it, unless each is a SHA-256 in hexadecimal."""
    for name, text in texts.items():
        if not _DIGEST.fullmatch(text):
            raise ValueError(f"{name} is {text!r:.80}, wanted a SHA-256")


def _checked(wanted: Any, value: Any, where: str) -> Any:
    """`value` as `wanted`: objects become dataclasses and lists tuples; no bool is a number."""
    if type(value) is wanted or wanted is Any:  # most values: what follows is slow
        return value
    origin = get_origin(wanted) or wanted
    if origin is UnionType:  # of a kind and None
        return None if value is None else _checked(get_args(wanted)[0], value, where)
    if is_dataclass(wanted):
        return from_json(wanted, value, f"{where}.")  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list):
        item = get_args(wanted)[0]
        return tuple(_checked(item, each, f"{where}[{n}]") for n, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        item = get_args(wanted)[1]
        return {name: _checked(item, each, f"{where}.{name}") for name, each in value.items()}
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        raise ValueError(f"{where} is {value!r:.40}, wanted {origin.__name__}")
    return value
