"""The journal of a change: what a writer is about to add to an index, and the index it replaces.

Enters: a manifest, before anything of the next one is written. Leaves: `change.json` beside it. Who
writes next settles what a killed writer left: a change whose manifest was not written is dropped,
what a written one replaced is deleted, and the journal goes last.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from index.disk.files import unfinished_name, write_atomic
from index.disk.schema import from_json, read_json
from index.manifest.manifest import MANIFEST, Manifest
from index.manifest.plan import DATA
from index.manifest.segments import SEGMENT_FILES, deletions_file, shard_files
from index.words.scratch import lexical_begun, remove_scratch
from index.writing.folder import delete, delete_replaced

JOURNAL = "change.json"


@dataclass(frozen=True)
class Journal:
    """A change of the index `replaced`: if it adds a segment, that is to be called `data`.

    What it deletes of a segment goes into that one's next file of deleted rows.
    """

    data: str
    replaced: Manifest

    def __post_init__(self) -> None:
        if not DATA.fullmatch(self.data):
            raise ValueError(f"data is {self.data!r:.80}, wanted data- and a number")


def write_journal(folder: Path, journal: Journal) -> None:
    """Write the journal; from here on `settle` knows whatever of the change there may be."""
    content = json.dumps(asdict(journal), ensure_ascii=False).encode()
    write_atomic(folder / JOURNAL, lambda file: file.write(content))


def settle(folder: Path, manifest: Manifest) -> None:
    """Leave nothing but the index of `manifest` of a change that was given up or made.

    Does nothing where there was none, and goes on where a killed one stopped. Raises `ValueError`,
    and touches nothing, when another program's file has the journal's name.
    """
    path = folder / JOURNAL
    unfinished_name(path).unlink(missing_ok=True)
    if not path.exists():
        return
    try:
        journal = from_json(Journal, read_json(path))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is in the way: it is damaged or another program's ({error}); move it"
        ) from None
    if journal.replaced == manifest:
        for segment in manifest.segments:
            delete(folder / segment.data, [deletions_file(segment.next_deletions)])
        remove_scratch(folder / journal.data)
        delete(folder / journal.data, list(_files_begun(folder / journal.data)))
    else:
        delete_replaced(folder, journal.replaced, manifest)
    unfinished_name(folder / MANIFEST).unlink(missing_ok=True)
    path.unlink()


def _files_begun(data: Path) -> Iterator[str]:
    """The files of a segment that was not finished, the last first: what a kill leaves is one."""
    shards = 0
    while any(each.exists() for name in shard_files(shards) for each in _spelled(data / name)):
        shards += 1
    yield from lexical_begun(data)
    yield from SEGMENT_FILES
    for number in reversed(range(shards)):
        yield from reversed(shard_files(number))


def _spelled(path: Path) -> tuple[Path, Path]:
    return path, unfinished_name(path)
