"""Where processes that may outlive a build write its shards, until the build takes each over.

Enters: an unfinished build. Leaves: a folder in it under a name that no other build has, whole
files moved out of it, or nothing of any such folder. Whoever still writes for a build that was
killed writes where nobody looks.
"""

import re
import secrets
import shutil
from pathlib import Path

from index.disk.files import check_digest, sync_folder
from index.manifest.segments import ShardRecord

_STAGING = re.compile(r"staging-[0-9a-f]{8}")


def begin_staging(build: Path) -> Path:
    """Make a folder for shards that are not part of the build yet."""
    folder = build / f"staging-{secrets.token_hex(4)}"
    folder.mkdir()
    return folder


def staging_folders(build: Path) -> list[Path]:
    """Every such folder of an unfinished build, whoever made it."""
    return sorted(
        path
        for path in build.glob("staging-*")
        if _STAGING.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    )


def take_over(staging: Path, shard: ShardRecord) -> None:
    """Move the files of a shard from its staging folder into the build.

    Raises `ValueError` for a file that did not arrive as it was written.
    """
    for name, digest in shard.digests.items():
        check_digest(staging, name, digest)
        (staging / name).replace(staging.parent / name)
    sync_folder(staging.parent)


def drop_staging(build: Path) -> None:
    """Delete the staging folders of a build, and what was not taken over."""
    for folder in staging_folders(build):
        shutil.rmtree(folder)
