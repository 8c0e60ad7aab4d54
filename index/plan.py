"""The plan of a build: all that decides its result. Its file tells our unfinished builds.

Enters: a plan. Leaves: `plan.json` inside the folder that is built, from the first moment to the
last: a folder that holds one is an unfinished build of ours.

    unfinished_build(Path("my-index"))  # my-index/building, or None
"""

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from index.schema import from_json, read_json

BUILDING = "building"
PLAN = "plan.json"
DATA = re.compile(r"data-\d{4,9}")


@dataclass(frozen=True)
class Plan:
    """The corpus, the encoder's fingerprint and the settings of a build."""

    corpus: str
    encoder: str
    settings: dict[str, Any]

    def differing(self, other: "Plan") -> str:
        """The names of the fields in which two plans differ; "" for the same plan."""
        mine, theirs = asdict(self), asdict(other)
        return ", ".join(name for name in mine if mine[name] != theirs[name])


def data_number(name: str) -> int:
    """The number in the name of a folder of data."""
    return int(name.removeprefix("data-"))


def read_plan(build: Path) -> Plan | None:
    """The plan of the build in the folder `build`; None where there is none that we wrote."""
    try:
        return None if build.is_symlink() else from_json(Plan, read_json(build / PLAN))
    except (OSError, ValueError):
        return None


def unfinished_build(folder: Path, published: Collection[str] = ()) -> Path | None:
    """The folder of an unfinished build inside `folder`; `published` are those a manifest names.

    It is called `building`, and by the name of data where it was killed while it was published.
    """
    names = [BUILDING, *sorted(path.name for path in folder.glob("data-*"))]
    for name in names:
        named = name == BUILDING or DATA.fullmatch(name)
        if named and name not in published and read_plan(folder / name) is not None:
            return folder / name
    return None
