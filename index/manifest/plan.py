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

from index.disk.schema import from_json, read_json

BUILDING = "building"
PLAN = "plan.json"
DATA = re.compile(r"data-\d{4,9}")
FLOAT32, INT8 = "float32", "int8"
PRECISIONS = (FLOAT32, "float16", INT8)


@dataclass(frozen=True)
class Plan:
    """The corpus, the encoder's fingerprint and the settings of a build."""

    corpus: str
    encoder: str
    settings: dict[str, Any]

    @property
    def precision(self) -> str:
        """How vectors are stored: the setting `vectors`, float32 where there is none.

        Raises `ValueError` for one that is none of `PRECISIONS`.
        """
        return checked_precision(self.settings.get("vectors", FLOAT32), "settings.vectors")

    def differing(self, other: "Plan") -> str:
        """The names of the fields in which two plans differ; "" for the same plan."""
        mine, theirs = asdict(self), asdict(other)
        return ", ".join(name for name in mine if mine[name] != theirs[name])


def checked_precision(precision: object, where: str = "vectors") -> str:
    """`precision`, one of `PRECISIONS`; raises `ValueError` for another, which `where` names."""
    if not (isinstance(precision, str) and precision in PRECISIONS):
        raise ValueError(f"{where} is {precision!r:.40}, wanted {' or '.join(PRECISIONS)}")
    return precision


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
