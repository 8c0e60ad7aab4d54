"""Where tantivy writes before its files take their names: whose they are, and how they go again.

Enters: the folder of a segment that is written. Leaves: nothing of what a killed writer left there.
"""

import re
from pathlib import Path

from index.manifest.words import SUFFIXES, lexical_files

LEXICAL = "lexical"
SCRATCH = f"{LEXICAL}.unfinished"
# Names that tantivy draws, and those that it always takes.
_TANTIVYS = re.compile(
    rf"[0-9a-f]{{32}}\.({'|'.join(SUFFIXES)}|temp)|\.tmp\w+|meta\.json|\.managed\.json"
    rf"|\.tantivy-(meta|writer)\.lock"
)


def remove_scratch(place: Path) -> None:
    """Delete what tantivy wrote into its folder in `place`, and that if nothing else is there."""
    scratch = place / SCRATCH
    if place.is_symlink() or scratch.is_symlink() or not scratch.is_dir():
        return
    gone = False
    while not gone:
        ours = [path for path in scratch.iterdir() if _TANTIVYS.fullmatch(path.name)]
        for path in ours:
            path.unlink()
        try:
            scratch.rmdir()
            gone = True
        except OSError:
            # A stranger's file, or a lock file of a thread that has not heard of the end.
            gone = not ours


def lexical_begun(place: Path) -> list[str]:
    """The files of the pieces that were begun in `place`, the last piece's first."""
    pieces = 0
    while any((place / name).exists() for name in lexical_files(pieces).values()):
        pieces += 1
    return [name for number in reversed(range(pieces)) for name in lexical_files(number).values()]
