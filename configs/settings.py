"""Read settings: a YAML file into a frozen dataclass, strictly.

Enters: a dataclass, a YAML file, overrides. Leaves: an instance of the dataclass.

    read_settings(IndexSettings, Path("configs/index/default.yaml"), shard_size=512)
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

Settings = TypeVar("Settings")
CONFIGS = Path(__file__).parent


def read_settings(
    settings: type[Settings], path: Path | str | None = None, **overrides: object
) -> Settings:
    """Make a `settings` from the mapping in `path` and then from `overrides` that are not None.

    `path` may be a file, or the name of one that ships with the project, without its ending
    (`rerank/minilm`). Raises `ValueError` naming the file and the key for a key that the
    dataclass does not have, a value of another type, or a file that is no mapping.
    """
    values = {} if path is None else read_mapping(path)
    values |= {key: value for key, value in overrides.items() if value is not None}
    return make_settings(settings, values, str(path or "the options"))


def read_mapping(path: Path | str) -> dict[str, Any]:
    """The YAML mapping in `path`, or in the project's own file of that name."""
    file = Path(path)
    shipped = CONFIGS / f"{path}.yaml"
    if not file.is_file() and shipped.is_file():
        file = shipped
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join(
            sorted(str(p.relative_to(CONFIGS).with_suffix("")) for p in CONFIGS.rglob("*.yaml"))
        )
        raise ValueError(f"no settings file {path}; the project ships {names}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{file} holds {type(values).__name__}, wanted a mapping of settings")
    return values


def make_settings(settings: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Check `values` against the fields of `settings` and build it; `where` names their source."""
    assert dataclasses.is_dataclass(settings)
    fields = {field.name for field in dataclasses.fields(settings)}
    types_of = typing.get_type_hints(settings)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(fields))}"
            )
            raise ValueError(f"{where}: unknown setting {key!r}{hint}")
        checked[key] = _checked(types_of[key], value, f"{where}: {key}")
    for field in dataclasses.fields(settings):
        if field.name not in checked and field.init and _has_no_default(field):
            raise ValueError(f"{where}: {field.name} is missing")
    return settings(**checked)


def _has_no_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _checked(wanted: Any, value: Any, where: str) -> Any:
    """`value` as `wanted`: mappings become dataclasses, lists tuples, an int serves as float.

    The values of a `Mapping[str, item]` are checked as `item`.
    """
    options = typing.get_args(wanted) if typing.get_origin(wanted) in _UNIONS else (wanted,)
    for option in options:
        if option is Any:
            return value
        if dataclasses.is_dataclass(option) and isinstance(value, Mapping):
            return make_settings(option, value, where)  # type: ignore[arg-type]
        origin = typing.get_origin(option) or option
        if origin is tuple and isinstance(value, list | tuple):
            return _checked_tuple(typing.get_args(option), value, where)
        if origin in (dict, Mapping) and isinstance(value, Mapping):
            item = (*typing.get_args(option), Any, Any)[1]
            return {key: _checked(item, each, f"{where}.{key}") for key, each in value.items()}
        if origin is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if origin is typing.Literal:
            if value in typing.get_args(option):
                return value
        elif isinstance(value, origin) and not (isinstance(value, bool) and origin in (int, float)):
            return value
    names = " or ".join(_name(option) for option in options)
    raise ValueError(f"{where} is {value!r}, wanted {names}")


def _checked_tuple(items: tuple[Any, ...], values: Sequence[Any], where: str) -> tuple[Any, ...]:
    """`values` as the items of `tuple[item, ...]`, or of `tuple[first, second]`."""
    if items[1:] == (Ellipsis,) or not items:
        items = (items[0] if items else object,) * len(values)
    if len(items) != len(values):
        raise ValueError(f"{where} has {len(values)} values, wanted {len(items)}")
    return tuple(
        _checked(item, value, f"{where}[{place}]")
        for place, (item, value) in enumerate(zip(items, values, strict=True))
    )


def _name(option: Any) -> str:
    if typing.get_origin(option) is typing.Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(option))
    if option is type(None):
        return "null"
    return str(option) if typing.get_origin(option) else getattr(option, "__name__", str(option))


_UNIONS = (typing.Union, types.UnionType)
