"""What `index.py` measures in a process of its own: made vectors, builds of them, openings.

Enters: the name of a measurement and what it takes. Leaves: one JSON object on stdout.

    python benchmarks/measuring/index_apart.py make vectors.f32 50000
    python benchmarks/measuring/index_apart.py memory my-index vectors.f32 Flat
    python benchmarks/measuring/index_apart.py opening my-index
"""

import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A script among the benchmarks is called as the package measured here: their folder comes second.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np
from clustered import clustered, clustered_queries

from index.dense_index import DenseIndex
from index.disk.files import only_writer
from index.manifest.manifest import EncoderRecord
from index.manifest.plan import Plan
from index.records import Passage
from index.writing.writer import IndexWriter

D, SHARD = 384, 2048
ENCODER = EncoderRecord("made", "made", D, 128, "mean", "", "")


def passages(start: int, count: int) -> list[Passage]:
    """Short texts, numbered."""
    return [Passage(f"p{n:08d}", "", f"passage {n}") for n in range(start, start + count)]


def make(file: Path, rows: int) -> dict[str, Any]:
    """Write made vectors, one behind the other."""
    with file.open("wb") as written:
        for block in clustered(rows, D):
            written.write(block.data)
    return {}


def build(folder: Path, made: Path, kind: str) -> None:
    """Write an index of made vectors, as a build does whose passages are encoded."""
    vectors = np.memmap(made, np.float32, "r").reshape(-1, D)
    with only_writer(folder):
        writer = IndexWriter(folder, Plan("made", "made", {}), resume=False, overwrite=False)
        for start in range(0, len(vectors), SHARD):
            part = np.array(vectors[start : start + SHARD])
            writer.add_shard(passages(start, len(part)), part, 0)
        writer.publish(encoder=ENCODER, factory=kind, skipped=0, created_by={})


def _status(name: str) -> float:
    """Megabytes of this process that the kernel counts under `name`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1000
    return float("nan")


def measured_build(folder: Path, made: Path, kind: str) -> dict[str, Any]:
    """Build, with the highest anonymous memory that was seen meanwhile."""
    before, peak, ended = _status("RssAnon"), [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], _status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    build(folder, made, kind)
    seconds = time.perf_counter() - start
    ended.set()
    watcher.join()
    (faiss_file,) = folder.glob("data-*/vectors.faiss")
    size = faiss_file.stat().st_size / 1e6
    return {
        "what": "memory",
        "rows": made.stat().st_size // (4 * D),
        "kind": kind,
        "build s": round(seconds, 1),
        "faiss MB": round(size, 1),
        "peak anonymous MB": round(peak[0] - before, 1),
        "beside faiss MB": round(peak[0] - before - size, 1),
        "ru_maxrss MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1),
    }


def measured_opening(folder: Path) -> dict[str, Any]:
    """Open an index and search once."""
    before, start = _status("RssAnon"), time.perf_counter()
    index = DenseIndex.open(folder)
    opened, grown = time.perf_counter() - start, _status("RssAnon") - before
    index.search(clustered_queries(1000, D, 1), k=10)
    return {
        "what": "opening",
        "rows": len(index),
        "open s": round(opened, 3),
        "anonymous MB": round(grown, 1),
        "open and first search s": round(time.perf_counter() - start, 3),
    }


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "make": lambda file, rows: make(Path(file), int(rows)),
    "memory": lambda folder, made, kind: measured_build(Path(folder), Path(made), kind),
    "opening": lambda folder: measured_opening(Path(folder)),
}


if __name__ == "__main__":
    what, *taken = sys.argv[1:]
    print(json.dumps(MEASUREMENTS[what](*taken)))
