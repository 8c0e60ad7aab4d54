"""What a condition on metadata costs: its mask, and the search under it, in one run.

Enters: options. Leaves: one table on stdout: milliseconds to find the rows that a new condition
keeps, beside pyarrow's own filter over the same columns in one table in memory; and of a search
under a condition, beside the same search without one, as the share of kept rows falls.

    python benchmarks/where.py --quick
    python benchmarks/where.py --passages 1000000 --factory HNSW32,Flat --json
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow.compute as pc
from provenance import provenance

from index.dense_index import DenseIndex
from index.disk.files import only_writer
from index.manifest.manifest import EncoderRecord
from index.manifest.plan import Plan
from index.records import Passage
from index.writing.writer import IndexWriter

SHARD = 2048
LANGUAGES = ("en", "de", "fr", "es")
SHARES = (0.9, 0.5, 0.1, 0.01, 0.001)


def build(folder: Path, passages: int, dimension: int, factory: str) -> DenseIndex:
    """An index of unit vectors around 1,000 centres; `share` is spread evenly over 0 to 1."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(1000, dimension)).astype(np.float32)
    with only_writer(folder):
        plan = Plan("made", "made", {"shard_size": SHARD})
        writer = IndexWriter(folder, plan, resume=False, overwrite=False)
        for start in range(0, passages, SHARD):
            rows = range(start, min(start + SHARD, passages))
            noise = generator.normal(size=(len(rows), dimension)).astype(np.float32)
            vectors = centres[generator.integers(1000, size=len(rows))] + 0.5 * noise
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            texts = [
                Passage(f"p{row}", "", "text", {"share": share, "lang": LANGUAGES[row % 4]})
                for row, share in zip(rows, generator.random(len(rows)).tolist(), strict=True)
            ]
            writer.add_shard(texts, vectors, truncated=0)
        encoder = EncoderRecord("made", "made", dimension, 0, "none", "", "")
        writer.publish(encoder=encoder, factory=factory, skipped=0, created_by={})
    return DenseIndex.open(folder)


def milliseconds(call: Callable[[int], object], rounds: int) -> float:
    """The median of `rounds` calls, each with a number of its own, after one that warms up."""
    times = []
    for number in range(rounds + 1):
        before = time.perf_counter()
        call(number)
        times.append(1000 * (time.perf_counter() - before))
    return statistics.median(times[1:])


def measure(opened: DenseIndex, queries: np.ndarray, rounds: int) -> dict[str, Any]:
    """Milliseconds, and the ratios that they make."""
    (segment,) = opened.metadata._segments
    whole = segment.table.combine_chunks()

    # Each round asks something new: the last few answers are remembered.
    def ours(number: int) -> object:
        return opened.where(f"share < {0.1 + number / 1e6} and lang = 'en'")

    def peer(number: int) -> object:
        return whole.filter((pc.field("share") < 0.1 + number / 1e6) & (pc.field("lang") == "en"))

    mask, table = milliseconds(ours, rounds), milliseconds(peer, rounds)
    result = {
        "mask of a new condition, ms": round(mask, 2),
        "pyarrow's filter of one table, ms": round(table, 2),
        "mask / filter": round(mask / table, 2),
    }
    plain = milliseconds(lambda _: opened.search(queries, 10), rounds)
    result[f"search of {len(queries)} queries, ms"] = round(plain, 2)
    for share in SHARES:
        under = milliseconds(lambda _, s=share: opened.search(queries, 10, f"share < {s}"), rounds)
        result[f"under a condition that keeps {share:.1%}, ms"] = round(under, 2)
        result[f"under / plain, {share:.1%}"] = round(under / plain, 2)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a condition on metadata costs.")
    parser.add_argument("--quick", action="store_true", help="50,000 passages, under a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--passages", type=int, help="how many (200,000)")
    parser.add_argument("--dimension", type=int, default=384, help="of a vector (%(default)s)")
    parser.add_argument("--factory", default="auto", help="a FAISS factory string (%(default)s)")
    parser.add_argument("--queries", type=int, default=16, help="in one search (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls each (%(default)s)")
    arguments = parser.parse_args()
    passages = arguments.passages or (50_000 if arguments.quick else 200_000)
    with tempfile.TemporaryDirectory() as folder:
        opened = build(Path(folder), passages, arguments.dimension, arguments.factory)
        factory = opened.manifest.segments[0].faiss_factory
        some = np.linspace(0, passages - 1, arguments.queries).astype(np.int64)
        queries = opened.segments[0].vectors[some]
        result = {
            **provenance(),
            "passages": passages,
            "dimension": arguments.dimension,
            "factory": factory,
            **measure(opened, queries, arguments.rounds),
        }
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<44} {value}")


if __name__ == "__main__":
    main()
