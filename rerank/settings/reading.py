"""Find and read the settings of a model, of either kind.

Enters: a model's name or folder, or a YAML file. Leaves: `EncoderSettings` or `DecoderSettings`. A
model's folder may carry its own as `blockrank.yaml`; otherwise the project's file of the model's
name, or of its kind, is taken.

    settings_for("smollm2", "smollm2", "decoder").layer
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from configs.settings import CONFIGS, make_settings, read_mapping
from rerank.settings.common import RankerSettings
from rerank.settings.decoder import DecoderSettings
from rerank.settings.encoder import EncoderSettings

OWN_SETTINGS = "blockrank.yaml"
_KINDS: dict[str, type[RankerSettings]] = {"encoder": EncoderSettings, "decoder": DecoderSettings}
_LATER = ("query_gates",)
_OTHER = {"encoder": "decoder", "decoder": "encoder"}


def settings_for(name: str, folder: str, kind: str) -> RankerSettings:
    """The settings of the model `name`, whose files lie in `folder` if that is one.

    `kind` (`encoder` or `decoder`) names the project's file for a model that has none.
    """
    own = Path(folder) / OWN_SETTINGS
    if own.is_file():
        return read_ranker_settings(own)
    shipped = f"rerank/{name}"
    known = "/" not in name and (CONFIGS / f"{shipped}.yaml").is_file()
    return read_ranker_settings(shipped if known else f"rerank/{kind}")


def base_of(folder: Path) -> str | None:
    """The model that `folder` holds a change of, or None where it is whole (or no folder)."""
    own = folder / OWN_SETTINGS
    return read_ranker_settings(own).base if own.is_file() else None


def read_ranker_settings(path: Path | str, **overrides: object) -> RankerSettings:
    """The settings in a file, or in the project's own of that name, of the kind that it says.

    `overrides` that are not None go before it. Raises `ValueError` as `read_settings` does.
    """
    values = read_mapping(path)
    values |= {key: value for key, value in overrides.items() if value is not None}
    return make_ranker_settings(values, str(path))


def make_ranker_settings(values: Mapping[str, Any], where: str) -> RankerSettings:
    """Settings of the kind that `values["backbone"]` says; `where` names their source.

    A file may hold the other kind's fields too, as all once did, where they ask for nothing.
    """
    if "backbone" not in values:
        raise ValueError(f"{where}: backbone is missing")
    kind = values["backbone"]
    if kind not in tuple(_KINDS):
        raise ValueError(f"{where}: backbone is {kind!r}, wanted 'encoder' or 'decoder'")
    foreign = _alone(_OTHER[kind])
    for name, default in foreign.items():
        # Numbers of the other kind decide nothing; what is off unless asked for would.
        off = default is None or default is False
        if off and values.get(name, default) is not default:
            raise ValueError(f"{where}: {_refusal(kind, name)}")
    own = {name: value for name, value in values.items() if name not in foreign}
    return make_settings(_KINDS[kind], own, where)


def all_fields(settings: RankerSettings) -> dict[str, Any]:
    """The fields of `settings`, and those of the other kind as if nothing were asked of them.

    What was kept of settings before they had kinds holds all of these, and not what came later,
    which is named only where something is asked of it.
    """
    values = {**asdict(settings), **_alone(_OTHER[settings.backbone])}
    return {name: value for name, value in values.items() if value or name not in _LATER}


def _alone(kind: str) -> dict[str, Any]:
    """The fields that only settings of `kind` have, and their defaults."""
    common = {field.name for field in fields(RankerSettings)}
    own = [field for field in fields(_KINDS[kind]) if field.name not in common]
    assert all(field.default is not MISSING for field in own)
    return {field.name: field.default for field in own}


def _refusal(kind: str, name: str) -> str:
    if kind == "decoder":
        return f"{name} needs backbone: encoder and score: log_sum_exp"
    if name == "coverage_layer":
        return "coverage_layer needs backbone: decoder; encoders run all their layers"
    return "layer and heads need backbone: decoder; encoders score by their last hidden states"
