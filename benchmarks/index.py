"""An index of ours beside plain calls of FAISS on the same file, and beside other libraries.

Enters: options. Leaves: a row on stdout as soon as it is measured. No encoder is needed: vectors
lie as a sentence encoder's do (`clustered.py`), queries are none of them, texts are short. Times
are medians of rounds in which all methods take turns, each batch of new queries.

    memory   peak of a build, in a process of its own, anonymous (what can't be read again) and all;
             vectors come from a file that was made before, and count in neither
    search   milliseconds of raw FAISS (`index.search` with the same beam or lists), of that for as
             many as we ask it for (wide), of others (see `index_peers.py`) and of ours, which also
             scores again, breaks ties by id and names passages; recall@10 of each. Of codes, the
             equal of ours is FAISS's own refinement
    naming   milliseconds of finding the ids of a batch's hits
    peer     how long others take to link the graph
    trip     how many of a sample of passages are found first by their own vectors, or by equal ones
    opening  seconds and anonymous memory until an index is open, in a process of its own
    add      seconds of a commit of 1,000 encoded passages

    python benchmarks/index.py --quick
    python benchmarks/index.py --folder /somewhere/with/10/GB --only quarter codes --builds
    python benchmarks/index.py --folder /somewhere/with/10/GB --only codes
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import faiss
import numpy as np
from clustered import clustered_queries
from index_peers import Search, peers_of
from measuring.index_apart import D, passages
from provenance import provenance

from index.dense.kinds import has_exact_scores
from index.dense.products import pair_products
from index.dense.recall import exact_search
from index.dense.search import RESCORE_FACTOR, SPARE
from index.dense.selection import Selection
from index.dense_index import DenseIndex
from index.disk.files import only_writer
from index.segment import Segment
from index.writing.change import IndexChange

BATCH, K = 64, 10
# Later batches have hits that were named before.
ROUNDS_NAMED = 8
# Recalls that 640 answers can't tell apart.
EQUAL = 0.002


def in_turns(
    methods: dict[str, Callable[[np.ndarray], object]],
    asked: np.ndarray,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Median milliseconds of each method over batches [rounds, q, d]; each begins in its turn.

    Who is asked first finds the least of a batch in the caches.
    """
    taken: dict[str, list[float]] = {name: [] for name in methods}
    names = list(methods)
    for batch in asked:
        names = names[1:] + names[:1]
        for name in names:
            start = clock()
            methods[name](batch)
            taken[name].append(1000 * (clock() - start))
    # The first round warms.
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def recall(scores: np.ndarray, exact: np.ndarray) -> float:
    """The share of the best ten: by score, so that equal passages are one another's."""
    return round(float((scores >= exact[:, -1:] - 1e-6).mean()), 4)


def whole_scores(segment: Segment, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Inner products of rows [q, 10] with their queries: FAISS's own may be of codes."""
    gathered = segment.vectors[rows.reshape(-1).clip(0)].reshape(*rows.shape, D)
    products: np.ndarray = np.einsum("qkd,qd->qk", gathered, queries)
    return np.where(rows >= 0, products, -np.inf)


def search_rows(
    folder: Path, rows: int, rounds: int, clock: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    """Ours beside raw FAISS and others, in batches of 64 and one by one."""
    index = DenseIndex.open(folder)
    (segment,) = index.segments
    built, kind = segment._faiss, segment.record.faiss_factory
    queries = clustered_queries(rows, D, (rounds + 1) * BATCH)
    asked = queries[:BATCH]
    exact = exact_search(asked, index.vectors, K)
    plain = Selection(built, None)

    def found(method: Search) -> float:
        return recall(whole_scores(segment, asked, method(asked)[1]), exact)

    wide = K + SPARE if has_exact_scores(kind) else K * RESCORE_FACTOR
    methods: dict[str, Search] = {
        "raw": lambda queries: built.search(queries, K, params=plain._parameters(K)),
        "raw, wide": lambda queries: plain.search(queries, wide),
    }
    recalls, widths = {"raw": found(methods["raw"])}, {}
    hits = index.search(asked, K)
    recalls["ours"] = recall(np.array([[h.score for h in each] for each in hits]), exact)
    for name, make_peer in peers_of(kind, built).items():
        start = time.perf_counter()
        try:
            peer = make_peer(np.concatenate(list(segment.vectors.parts)), K)
        except ImportError as error:
            yield {"what": "peer", "peer": name, "skipped": f"{error.name} is not installed"}
            continue
        yield {"what": "peer", "peer": name, "build s": round(time.perf_counter() - start, 1)}
        methods[name] = peer.search
        for width in peer.widths:  # until as much is found
            peer.widen(width)
            recalls[name] = found(peer.search)
            if recalls[name] >= recalls["ours"] - EQUAL:
                break
        widths[f"{name}, width"] = width
    methods["segment"] = lambda queries: segment.search(queries, K)
    methods["ours"] = lambda queries: index.search(queries, K)
    # Every vector was read above; ids too, now, so that no turn pays for pages touched first.
    assert len(index.ids) == rows
    for size in (BATCH, 1):
        turns = in_turns(methods, queries.reshape(-1, size, D)[: 8 * (rounds + 1)], clock)
        yield {
            "what": "search",
            "kind": kind,
            "rows": rows,
            "batch": size,
            **{f"{name} ms": round(ms, 3) for name, ms in turns.items()},
            **{
                f"ours / {name}": round(turns["ours"] / ms, 3)
                for name, ms in turns.items()
                if name not in ("raw, wide", "segment", "ours")
            },
            "ours - raw ms": round(turns["ours"] - turns["raw"], 3),
            **{f"recall {name}": value for name, value in recalls.items()},
            **widths,
            "recall in the manifest": segment.record.recall_at_10,
        }
    yield naming_row(folder, queries.reshape(-1, BATCH, D), clock)


def naming_row(folder: Path, asked: np.ndarray, clock: Callable[[], float]) -> dict[str, Any]:
    """The ids of a batch's hits: when most are named first, and so led back, and once more."""
    (segment,) = DenseIndex.open(folder).segments

    def name(batch: np.ndarray) -> list[float]:
        rows = np.concatenate([rows for rows, _ in segment.search(batch, K)])
        times = [clock()]
        for _ in range(2):
            segment.ids_of(rows)
            times.append(clock())
        return [1000 * (end - start) for start, end in pairwise(times)]

    first, again = np.median([name(batch) for batch in asked[:ROUNDS_NAMED]], axis=0).tolist()
    return {"what": "naming", "batch": BATCH, "ms": round(first, 3), "again ms": round(again, 3)}


def add_row(folder: Path, rows: int) -> dict[str, Any]:
    """Add 1,000 passages whose vectors are there. They are deleted again, which is not timed."""
    vectors = clustered_queries(rows, D, 1000)
    new = passages(rows, 1000)
    start = time.perf_counter()
    with only_writer(folder), IndexChange(folder) as change:
        assert (change.find([passage.id for passage in new]) < 0).all()
        change.add_shard(new, vectors, 0)
        change.commit()
    seconds = time.perf_counter() - start
    opened = apart("opening", folder)
    with only_writer(folder), IndexChange(folder) as change:
        change.delete(change.find([passage.id for passage in new]))
        change.commit()
    return {"what": "add", "rows": rows, "s": round(seconds, 3), "then to open s": opened["open s"]}


def trip_row(folder: Path, sample: int = 1000) -> dict[str, Any]:
    """Passages that their own vectors find first, or an equal one in their place."""
    index = DenseIndex.open(folder)
    rows = np.linspace(0, len(index) - 1, min(sample, len(index))).astype(np.int64)
    vectors = index.vectors[rows]
    own = pair_products(index.vectors, rows, vectors, np.arange(len(rows)))
    found = index.search(vectors, 1)
    first = sum(hits[0].score >= score for hits, score in zip(found, own, strict=True))
    kind = index.segments[0].record.faiss_factory
    return {"what": "trip", "rows": len(index), "kind": kind, "asked": len(rows), "first": first}


def apart(*arguments: object) -> dict[str, Any]:
    """What a measurement in a process of its own prints."""
    script = Path(__file__).parent / "measuring" / "index_apart.py"
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def codes(rows: int) -> str:
    """The kind that `auto` takes beyond graphs, for so many vectors."""
    return f"IVF{2 ** round(np.log2(4 * np.sqrt(rows)))},PQ{D // 2}x4fs"


def measure(folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every row, in turn."""
    most = arguments.rows or (200_000 if arguments.quick else 1_000_000)
    rounds = arguments.rounds or (5 if arguments.quick else 12)
    graph = min(most, 100_000 if arguments.quick else 200_000)
    sizes = {
        "flat": (min(most, 50_000), "Flat"),
        "graph": (graph, "HNSW32,Flat"),
        "quarter": (most // 4, codes(most // 4)),
        "codes": (most, codes(most)),
    }
    sizes = {name: sizes[name] for name in arguments.only or sizes}
    clock = time.process_time if arguments.processor else time.perf_counter
    for name, (rows, kind) in sizes.items():
        if not (folder / name).exists():
            (folder / name).mkdir(parents=True)
            made = folder / f"{name}.f32"
            apart("make", made, rows)
            yield apart("memory", folder / name, made, kind)
            made.unlink()
    for name, (rows, _) in sizes.items():
        if not arguments.builds and name != "quarter":
            yield from search_rows(folder / name, rows, rounds, clock)
            yield trip_row(folder / name)
            yield apart("opening", folder / name)
    if not arguments.builds and "codes" in sizes:
        yield add_row(folder / "codes", most)


def main() -> None:
    """Measure, and print row by row."""
    parser = argparse.ArgumentParser(description="An index of ours beside plain FAISS and others.")
    parser.add_argument("--quick", action="store_true", help="200 thousand vectors, not 1 million")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rows", type=int, help="how many vectors at most")
    parser.add_argument("--rounds", type=int, help="timed batches of each method")
    parser.add_argument(
        "--folder", type=Path, help="where indexes stay, and are not built again where they are"
    )
    kinds = ("flat", "graph", "quarter", "codes")
    parser.add_argument("--only", nargs="+", choices=kinds, help="some of the indexes")
    parser.add_argument("--builds", action="store_true", help="build them, and no more")
    parser.add_argument(
        "--processor",
        action="store_true",
        help="search times of the processor, where others are at work: of one thread they compare",
    )
    arguments = parser.parse_args()
    about = {
        **provenance(),
        "faiss": faiss.__version__,
        "threads of faiss": faiss.omp_get_max_threads(),
        "search times": "processor" if arguments.processor else "clock",
    }
    _show(about, arguments.json)
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(arguments.folder or Path(folder), arguments):
            _show(row, arguments.json)


def _show(row: dict[str, Any], as_json: bool) -> None:
    text = json.dumps(row) if as_json else " | ".join(f"{name} {row[name]}" for name in row)
    print(text, flush=True)


if __name__ == "__main__":
    main()
