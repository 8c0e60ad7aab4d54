"""Write a ranker's settings so that a model's folder carries them.

Enters: `RankerSettings` and what they come from. Leaves: a `blockrank.yaml` that
`read_ranker_settings` reads back as the same settings.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from configs.files import replacing
from rerank.settings.common import RankerSettings


def settings_text(settings: RankerSettings, provenance: Mapping[str, Any] | None = None) -> str:
    """The settings as YAML, a line a field; `provenance` stands in front as comments."""
    comments = [f"# {name}: {_line(value)}\n" for name, value in (provenance or {}).items()]
    fields = [f"{name}: {_line(value)}\n" for name, value in asdict(settings).items()]
    return "".join(comments + fields)


def _line(value: Any) -> str:
    if isinstance(value, str):  # quoted, so that line breaks are escapes
        return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=1 << 30).strip()
    return json.dumps(value)


def write_settings(
    path: Path, settings: RankerSettings, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write the file `path`, whole or not at all; one that is there is replaced."""
    with replacing(path) as file:
        file.write(settings_text(settings, provenance).encode("utf-8"))
