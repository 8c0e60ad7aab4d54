"""What an index costs to open, and a text and an id to read, side by side with before.

Enters: how many made-up rows. Leaves: a table on stdout.

    python benchmarks/store.py --rows 2000000

Before means format 2: groups of 256 passages that become Python objects whole, and every id in a
list and in a dictionary. The index has no FAISS file: what that costs to open is FAISS's own.
"""

import argparse
import json
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

# A script here is called as a package of ours, and this folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from passages import make_passages
from provenance import provenance

from index.dense_index import DenseIndex
from index.manifest.manifest import METRIC, EncoderRecord, Manifest, counted
from index.manifest.segments import SegmentRecord
from index.records import Passage
from index.segment import Segment
from index.store.ids import write_ids
from index.store.shards import PassageStore, write_shard

SHARD, DIMENSION, TOKENS = 2048, 64, 100


def main() -> None:
    """Measure texts, then ids and opening."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the index (200,000)")
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    options = parser.parse_args()
    rows = 20_000 if options.quick else options.rows
    print(json.dumps(provenance()))
    with (
        tempfile.TemporaryDirectory() as place,
        patch("index.segment.read_faiss", lambda *_: None),
        patch("os.fsync", lambda _: None),  # thousands of shards, of which none is to last
    ):
        measure_texts(Path(place))
        folder = Path(place) / "index"
        write_rows(folder, rows)
        measure_opening(folder)
        measure_ids(DenseIndex.open(folder).segments[0])


def measure_texts(place: Path) -> None:
    """A text whose group was not read yet, as it is read now and as it was before."""
    texts = [Passage(f"doc-{n}", "", text) for n, text in enumerate(make_passages(SHARD, TOKENS))]
    shard = write_shard(place, 0, texts, np.eye(SHARD, DIMENSION, dtype=np.float32), 0)
    old = place / "before.parquet"
    columns = {field: [getattr(text, field) for text in texts] for field in ("id", "title", "text")}
    pq.write_table(pa.table(columns), old, row_group_size=256, compression="zstd")
    before = pq.ParquetFile(old, memory_map=True)
    store = PassageStore(place, [shard])
    rows = np.random.default_rng(0).integers(SHARD, size=100).tolist()

    def read_before() -> None:
        for row in rows:
            columns = before.read_row_group(row // 256).columns
            list(zip(*(column.to_pylist() for column in columns), strict=True))[row % 256]

    def read_now() -> None:
        for row in rows:
            store._groups.clear()
            store[row]

    slow, fast = best_of(read_before, read_now)
    share = (place / shard.passages).stat().st_size / old.stat().st_size
    print(
        f"a text: {slow * 1e4:.0f} us before, {fast * 1e4:.0f} us now, {slow / fast:.1f} times as "
        f"fast, in {share:.2f} of the bytes"
    )


def best_of(*calls: Callable[[], object], turns: int = 15) -> list[float]:
    """The least seconds of the processor that each took, in turns: others may be at work here."""
    best = [float("inf")] * len(calls)
    for _ in range(turns):
        for number, call in enumerate(calls):
            start = time.process_time()
            call()
            best[number] = min(best[number], time.process_time() - start)
    return best


def write_rows(folder: Path, rows: int) -> None:
    """An index of `rows` short texts in shards of 2,048."""
    data = folder / "data-0001"
    data.mkdir(parents=True)
    vectors = np.random.default_rng(0).normal(size=(SHARD, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    shards = []
    for number, start in enumerate(range(0, rows, SHARD)):
        texts = [Passage(f"doc-{n:09d}", "", "short") for n in range(start, start + SHARD)]
        kept = min(SHARD, rows - start)
        shards.append(write_shard(data, number, texts[:kept], vectors[:kept], 0))
    (data / "vectors.faiss").touch()
    segment = SegmentRecord(
        data="data-0001",
        faiss_factory="Flat",
        faiss_sha256="0" * 64,
        passages=rows,
        recall_at_10=1.0,
        recall_queries=1,
        shards=tuple(shards),
        ids=write_ids(data, PassageStore(data, shards).id_chunks()),
    )
    encoder = EncoderRecord("made", "made", DIMENSION, 128, "mean", "", "")
    Manifest(
        corpus="made",
        encoder=encoder,
        metric=METRIC,
        skipped=0,
        segments=(segment,),
        last_data=1,
        settings={},
        created_by={},
        **counted([segment]),
    ).write(folder)


def measure_opening(folder: Path) -> None:
    """Opening beside FAISS: seconds, memory that is the process's own, descriptors that stay."""
    DenseIndex.open(folder)  # modules, and what the disk's cache holds, are not its own
    before, start, cpu = own_mebibytes(), time.perf_counter(), time.process_time()
    opened = DenseIndex.open(folder)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"opening {len(opened):,} rows in {len(opened.segments[0].record.shards):,} shards: "
        f"{wall:.2f} s ({cpu:.2f} s of processor), {own_mebibytes() - before:.0f} MiB, "
        f"{len(list(Path('/proc/self/fd').iterdir()))} descriptors in the process"
    )


def own_mebibytes() -> float:
    """Resident memory that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def measure_ids(segment: Segment) -> None:
    """What ids cost in memory, before and now, and what ten of them cost to read and to find."""
    rows = np.random.default_rng(0).integers(len(segment.ids), size=10)
    tracemalloc.start()
    ids = list(segment.ids)
    row_of = {id_: row for row, id_ in enumerate(ids)}
    held = tracemalloc.get_traced_memory()[0] / len(ids)
    tracemalloc.stop()
    found = segment.ids_of(rows)
    assert [row_of[id_] for id_ in found] == rows.tolist()
    (read,) = best_of(lambda: segment.ids_of(rows), turns=1000)
    print(
        f"ids: {held:.0f} bytes each in memory before, mapped now; ten read in {read * 1e6:.0f} us"
    )


if __name__ == "__main__":
    main()
