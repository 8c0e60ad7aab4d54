"""Whose a folder is: what of it a build may go on with, replace and delete.

Enters: the folder of `--out`. Leaves: what of ours it holds, or one clear `ValueError`, and nothing
is touched. Only files that a manifest or a plan of ours accounts for are ever deleted, by name.

    claim(Path("my-index"), resume=False, overwrite=True)
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from index.disk.files import LOCK, unfinished_name
from index.manifest.manifest import MANIFEST, Manifest
from index.manifest.plan import BUILDING, PLAN, unfinished_build
from index.manifest.segments import SEGMENT_FILES, shard_files
from index.words.scratch import LEXICAL, lexical_begun, remove_scratch
from index.writing.staging import drop_staging, staging_folders

# A build that replaces an index keeps that one's manifest here until its files are deleted.
REPLACED = "replaced.json"


class Claimed(NamedTuple):
    """What of ours is in a folder: its index, and its unfinished build with a shard or more."""

    manifest: Manifest | None
    unfinished: Path | None


def claim(folder: Path, *, resume: bool, overwrite: bool) -> Claimed:
    """Look through `folder` before a build touches it.

    Raises `ValueError` when it holds anything and neither an index nor a build of ours, when a
    stranger's file lies where the build would, and when neither option says what becomes of ours.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder as --out")
    manifest = Manifest.read(folder) if (folder / MANIFEST).exists() else None
    unfinished = unfinished_build(folder, _named(manifest))
    _refuse_strangers(folder, manifest, unfinished)
    unfinished = _worth_a_question(unfinished)
    if unfinished and not resume and not overwrite:
        raise ValueError(
            f"{folder} holds an unfinished build; --resume goes on with it, --overwrite starts "
            f"again"
        )
    if manifest and not resume and not overwrite:
        raise ValueError(f"{folder} already holds an index; --overwrite replaces it")
    return Claimed(manifest, unfinished)


def unfinished_in(folder: Path, manifest: Manifest) -> Path | None:
    """The unfinished build, with a shard or more, that is to replace an index; None without one."""
    return _worth_a_question(unfinished_build(folder, _named(manifest)))


def _worth_a_question(unfinished: Path | None) -> Path | None:
    """None also for a build that was killed before its first shard."""
    return unfinished if unfinished and record_of(unfinished, 0).exists() else None


def record_of(build: Path, number: int) -> Path:
    """Where an unfinished build records that shard `number` is whole."""
    return build / f"shard-{number:05d}.json"


def next_data(folder: Path, replaced: Manifest | None) -> str:
    """A name for the data of the next segment, which none before it had, nor anything else has."""
    number = replaced.last_data if replaced else 0
    while (folder / (name := f"data-{(number := number + 1):04d}")).exists():
        pass
    return name


def remove_build(folder: Path, manifest: Manifest | None) -> None:
    """Delete an unfinished build in `folder`, if there is any; not what `manifest` names."""
    build = unfinished_build(folder, _named(manifest))
    if build:
        remove_scratch(build)
        drop_staging(build)
        delete(build, _build_files(build))


def tidy(folder: Path, manifest: Manifest) -> None:
    """Delete what the publication of `manifest` leaves: its plan, and the index it replaced.

    Does nothing a second time, and goes on where a killed one stopped: the plan goes last.
    """
    for segment in manifest.segments:
        data = folder / segment.data
        if not (data / PLAN).exists():
            continue
        if replaced := _replaced(data):
            delete_replaced(folder, replaced, manifest)
        unfinished_name(folder / MANIFEST).unlink(missing_ok=True)
        records = [record_of(data, number).name for number in range(len(segment.shards))]
        delete(data, [*records, REPLACED, PLAN])


def delete_replaced(folder: Path, replaced: Manifest, manifest: Manifest) -> None:
    """Delete the files of an index that `manifest` has replaced, but for those that it keeps."""
    gone = replaced.files - manifest.files
    for segment in replaced.segments:
        delete(folder / segment.data, [n for n in segment.digests if (segment.data, n) in gone])


def _named(manifest: Manifest | None) -> set[str]:
    return {segment.data for segment in manifest.segments} if manifest else set()


def _replaced(data: Path) -> Manifest | None:
    try:
        return Manifest.read_file(data / REPLACED)
    except (OSError, ValueError):
        return None


def _refuse_strangers(folder: Path, manifest: Manifest | None, unfinished: Path | None) -> None:
    building = folder / BUILDING
    strangers = _others(building, [PLAN]) if unfinished != building else []
    if unfinished:
        staged = [path.name for path in staging_folders(unfinished)]
        strangers += _others(unfinished, [*_build_files(unfinished), LEXICAL, *staged])
    elif not manifest:
        strangers += _others(folder, [LOCK, MANIFEST, BUILDING])
    if strangers:
        raise ValueError(
            f"{strangers[0]} is in the way: no build of an index wrote it, and nothing was "
            f"touched; move it, or name another folder as --out"
        )


def _others(folder: Path, ours: Iterable[str]) -> list[Path]:
    """What is in `folder` besides `ours`, by any of their names; itself where it is no folder."""
    if not os.path.lexists(folder):
        return []
    if folder.is_symlink() or not folder.is_dir():
        return [folder]
    known = {spelled for name in ours for spelled in (name, unfinished_name(Path(name)).name)}
    return sorted(path for path in folder.iterdir() if path.name not in known)


def _build_files(build: Path) -> list[str]:
    """The files of an unfinished build, in the order in which they may be deleted.

    They are those of its recorded shards and of the one it was at. Records go from the last to the
    first, each after its files, and the plan last: what a kill leaves is a build again.
    """
    shards = 0
    while record_of(build, shards).exists():
        shards += 1
    names = [REPLACED, *lexical_begun(build), *SEGMENT_FILES]
    for number in reversed(range(shards + 1)):
        names += [*shard_files(number), record_of(build, number).name]
    return [*names, PLAN]


def delete(folder: Path, names: Iterable[str]) -> None:
    """Delete the files `names` in `folder`, then the folder if nothing is left in it."""
    if folder.is_symlink():
        return  # what it leads to is not ours
    for name in names:
        unfinished_name(folder / name).unlink(missing_ok=True)
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
