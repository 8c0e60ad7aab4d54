"""What a change of an index is refused for, in words: the same wherever the index lies.

Enters: the index's folder and ids. Leaves: a `ValueError` to raise.

    raise already_there(folder, "p7", PASSAGE)
"""

from collections.abc import Sequence
from pathlib import Path

# What the ids of a change are those of.
PASSAGE, DOCUMENT = "passage", "document"


def already_there(folder: Path, id_: str, kind: str) -> ValueError:
    """For what is added under an id that is live."""
    return ValueError(f"the index in {folder} has a {kind} {id_!r} already; `update` replaces it")


def unknown_ids(folder: Path, ids: Sequence[str], kind: str) -> ValueError:
    """For ids to delete that the index does not have; at least one."""
    return ValueError(
        f"the index in {folder} has no {kind} {ids[0]!r} (of {len(ids)} unknown ids; "
        f"--ignore-unknown passes them over)"
    )
