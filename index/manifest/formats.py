"""The forms that a manifest has had, and the digest of what it says.

Enters: what `manifest.json` holds. Leaves: the same in the form of format 3, which is written:

    1  one segment, its fields among the manifest's own
    2  segments, with deletions
    3  the manifest's digest; segments with tables of ids, and vectors of several precisions
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from index.manifest.plan import DATA, data_number

FORMAT_VERSION = 3
DIGEST = "sha256"


def in_this_form(values: Any) -> tuple[Any, str | None]:
    """What a manifest of any format holds, in the form of this one, and the digest it claims.

    The digest is None where its format had none. Raises `ValueError` for a format to come.
    """
    if not isinstance(values, dict):
        return values, None
    version = values.get("format_version")
    if type(version) is not int or version not in (1, 2, FORMAT_VERSION):
        raise ValueError(f"it has format {version}, this version reads 1, 2 and 3")
    if version == 1:
        return _of_one_segment(values), None
    if version == 2:
        return values, None
    others = {name: value for name, value in values.items() if name != DIGEST}
    return others, str(values.get(DIGEST, "missing"))


def digest_of(values: Mapping[str, Any]) -> str:
    """The SHA-256 of all that a manifest holds but for this digest, however it is laid out."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# What format 1, which knew no change after a build, said of its one segment beside everything else.
_OF_THE_SEGMENT = (
    "data", "faiss_factory", "faiss_sha256", "recall_at_10", "recall_queries", "shards",
)  # fmt: skip


def _of_one_segment(values: dict[str, Any]) -> dict[str, Any]:
    """What a manifest of format 1 holds, in the form of format 2."""
    for name in ("segments", "deleted", "last_data", "changes", "lexical", "columns"):
        if name in values:
            raise ValueError(f"{name} is unknown")
    segment = {name: values[name] for name in (*_OF_THE_SEGMENT, "passages") if name in values}
    others = {name: value for name, value in values.items() if name not in _OF_THE_SEGMENT}
    data = str(segment.get("data"))
    last = data_number(data) if DATA.fullmatch(data) else 0
    added = {"segments": [segment], "deleted": 0, "last_data": last}
    return others | added | {"format_version": FORMAT_VERSION}
