"""A writer in a process of its own, for `test_real_kills.py` to kill.

Imports once and forks for each line of stdin, `FOLDER CHANGE`; prints the pid of the child, and
what became of it when it is gone.
"""

import os
import sys
from pathlib import Path

import pyarrow as pa
from index_cases import change_index, passages, unit_vectors, write_index

ROWS = 1200
TEXTS, VECTORS = passages(ROWS), unit_vectors(ROWS)
FIRST, SECOND = slice(0, 600), slice(600, 900)
CHANGES = {
    "add": {"added": TEXTS[900:], "vectors": VECTORS[900:], "shard_size": 50},
    "update": {
        "added": [text._replace(text="another") for text in TEXTS[500:700]],
        "vectors": VECTORS[500:700],
        "shard_size": 50,
    },
    "delete": {"deleted": [text.id for text in TEXTS[300:900:3]]},
    "compact": {"compact": True, "shard_size": 60},
}


def write(folder: Path, name: str) -> None:
    """Do what `name` says to the index in `folder`, or make one there."""
    if name == "build":
        write_index(folder, VECTORS[FIRST], shard_size=30)
    elif name == "build again":
        write_index(folder, VECTORS[SECOND], shard_size=30, overwrite=True)
    else:
        change_index(folder, **CHANGES[name])


def _serve() -> None:
    pa.array(["a"])  # imports for a third of a second, in which a child would do nothing else
    for line in sys.stdin:
        folder, _, name = line.rstrip("\n").partition("\t")
        child = os.fork()
        if not child:
            write(Path(folder), name)
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
