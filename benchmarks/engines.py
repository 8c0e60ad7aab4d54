"""Engines and dtypes of a build, on the same shards in one run: speed, bits, what dtype moves.

Enters: options. Leaves: one table on stdout. Each line takes turns with the first (this process,
all threads, float32), and its ratio is the median over rounds; loading models is not counted. Of a
dtype: how far cosines of passages with each other move, and how much of the ten nearest stays.

    python benchmarks/engines.py --quick
    python benchmarks/engines.py --workers 2 4 --count 4096 --json
"""

import argparse
import json
import statistics
import sys
import time
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from passages import make_passages
from provenance import provenance

from index.manifest.segments import ShardRecord
from index.records import Passage
from retrieval.corpora import open_corpus
from retrieval.encoder import DEFAULT_ENCODER, DTYPES, FLOAT32
from retrieval.engines.choice import start_engine
from retrieval.engines.loading import LoadEncoder
from retrieval.engines.protocol import Engine, NumberedShard

FIRST = "this process, float32"


def encoded(engine: Engine, shards: list[NumberedShard]) -> np.ndarray:
    """The vectors of all shards, in order."""
    vectors: list[np.ndarray] = []

    def keep(number: int, passages: Any, rows: np.ndarray, truncated: int) -> ShardRecord:
        vectors.append(rows)
        return ShardRecord("", "", len(rows), truncated, "0" * 64, "0" * 64)

    for _ in engine.records(iter(shards), keep):
        pass
    return np.concatenate(vectors)


def moved(vectors: np.ndarray, wanted: np.ndarray) -> dict[str, Any]:
    """How vectors differ from those of the first engine, in what a search sees of them."""
    if np.array_equal(vectors, wanted):
        return {"bits": "the same"}
    queries = wanted[:: max(1, len(wanted) // 200)]
    cosines, found = queries @ wanted.T, queries @ vectors.T
    nearest = [np.argsort(-scores, axis=1)[:, :10] for scores in (cosines, found)]
    shared = [len(np.intersect1d(*pair)) for pair in zip(*nearest, strict=True)]
    return {
        "bits": "others",
        "a cosine moves by at most": float(np.abs(found - cosines).max()),
        "of the ten nearest stay": round(float(np.mean(shared)) / 10, 4),
    }


def measure(engines: dict[str, Engine], shards: list[NumberedShard], rounds: int) -> dict[str, Any]:
    """Passages a second of each, its ratio to the first in turns, and its vectors' difference."""
    count = sum(len(shard.passages) for shard in shards)
    wanted = encoded(engines[FIRST], shards)
    result: dict[str, Any] = {}
    for name, engine in engines.items():
        result[name] = {} if name == FIRST else moved(encoded(engine, shards), wanted)
        seconds: dict[str, list[float]] = {FIRST: [], name: []}
        for _ in range(rounds):
            for each in seconds:
                begun = time.perf_counter()
                encoded(engines[each], shards)
                seconds[each].append(time.perf_counter() - begun)
        turns = zip(seconds[FIRST], seconds[name], strict=True)
        result[name]["passages/s"] = round(count / statistics.median(seconds[name]), 1)
        result[name]["times as fast"] = round(statistics.median(a / b for a, b in turns), 3)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Engines and dtypes of a build, side by side.")
    parser.add_argument("--quick", action="store_true", help="fewer passages, one round")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="a model (%(default)s)")
    parser.add_argument("--corpus", help="passages to read; without, made ones of 100 words")
    parser.add_argument("--count", type=int, help="how many passages")
    parser.add_argument("--shard-size", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="*", default=[2])
    parser.add_argument("--device", help="as for build; several with commas between")
    arguments = parser.parse_args()
    count = arguments.count or (256 if arguments.quick else 1024)
    if arguments.corpus:
        passages = list(islice(open_corpus(arguments.corpus), count))
    else:
        passages = [Passage(str(n), "", text) for n, text in enumerate(make_passages(count, 100))]
    size = arguments.shard_size
    shards = [
        NumberedShard(number, passages[start : start + size])
        for number, start in enumerate(range(0, len(passages), size))
    ]
    with ExitStack() as stack:
        start = partial(start_engine, device=arguments.device)
        load = LoadEncoder(arguments.encoder)
        engines = {FIRST: stack.enter_context(start(load, workers=1))}
        for workers in arguments.workers:
            name = f"{workers} processes, float32"
            engines[name] = stack.enter_context(start(load, workers=workers))
        for dtype in DTYPES:
            if dtype != FLOAT32:
                engine = start(load._replace(dtype=dtype), workers=1)
                engines[f"this process, {dtype}"] = stack.enter_context(engine)
        result = {
            **provenance(),
            "passages": len(passages),
            **measure(engines, shards, 1 if arguments.quick else 3),
        }
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<26} {value}")


if __name__ == "__main__":
    main()
