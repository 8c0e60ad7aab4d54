"""The lexical leg beside bm25s, the in-memory peer, on the same passages in one run.

Enters: a folder of BEIR folders, options. Leaves: one table on stdout: seconds to build, the memory
that takes, bytes on disk, time to open, milliseconds a query for the best 100, seconds to add 1,000
passages (bm25s builds anew), how many of the best ten both find, and the leg's share of a build.

The passages are those of all collections, or the documentation of this Python, repeated until there
are enough of them: the words, and how often they come, are those of real text. A query is the first
ten words of a passage. Each system works in a process of its own, one after the other.

    python benchmarks/lexical.py --quick
    python benchmarks/lexical.py --data collections --count 200000 --json
"""

import argparse
import json
import multiprocessing
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from provenance import provenance

from index.dense_index import DenseIndex
from index.manifest.manifest import EncoderRecord
from index.manifest.plan import Plan
from index.records import Passage
from index.words.files import write_lexical
from index.writing.change import IndexChange
from index.writing.writer import IndexWriter
from retrieval.corpora import open_corpus
from retrieval.corpora.records import Skipped
from retrieval.encoder import DEFAULT_ENCODER, Encoder

_ADDED = 1_000
_K = 100
_SHARD = 2048


def real_texts(data: Path | None, count: int) -> list[str]:
    """`count` texts of the collections in the folder `data`, or of Python's documentation."""
    folders = sorted(data.iterdir()) if data else []
    names = [str(path) for path in folders if any(path.glob("corpus.jsonl*"))] or ["pydoc"]
    found = [passage.full_text for name in names for passage in open_corpus(name, Skipped())]
    return list(islice(cycle(found), count))


def ours(texts: list[str], queries: list[str], folder: Path) -> dict[str, Any]:
    """The leg of one segment of all but the last 1,000 texts, and those added."""
    passages = [Passage(f"p{number:09d}", "", text) for number, text in enumerate(texts)]
    vectors = np.ones((_SHARD, 1), np.float32)
    writer = IndexWriter(folder, Plan("texts", "none", {}), resume=False, overwrite=False)
    for start in range(0, len(passages) - _ADDED, _SHARD):
        shard = passages[start : min(start + _SHARD, len(passages) - _ADDED)]
        writer.add_shard(shard, vectors[: len(shard)], 0)
    encoder = EncoderRecord("none", "none", 1, 0, "mean", "", "")
    manifest = writer.publish(encoder=encoder, factory="SQ8", skipped=0, created_by={})
    (segment,) = manifest.segments
    place = folder / segment.data
    build_s, memory, words = _grown(lambda: write_lexical(place, segment.shards, "english"))
    segment = replace(segment, words=words)
    replace(manifest, lexical="english", segments=(segment,)).write(folder)
    result = {
        "build, s": build_s,
        "memory of the build, MB": memory,
        "disk, MB": sum(path.stat().st_size for path in place.glob("lexical-*")) / 1e6,
    }

    def add() -> None:
        with IndexChange(folder) as change:
            change.add_shard(passages[-_ADDED:], np.ones((_ADDED, 1), np.float32), 0)
            change.commit(factory="SQ8")

    result["add 1,000, s"], _ = _timed(add)
    result["open, ms"], index = _timed(lambda: DenseIndex.open(folder))
    result["open, ms"] *= 1000
    _ = index.ids  # what a search reads once
    times, found = _each(queries, lambda query: index.search_words([query], _K)[0])
    result |= times
    result["found"] = [[int(hit.id[1:]) for hit in hits[:10]] for hits in found]
    return result


def bm25s_peer(texts: list[str], queries: list[str], folder: Path) -> dict[str, Any]:
    """bm25s with the same k1 and b, English stems and stop words."""
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")

    def tokens(of: list[str]) -> Any:
        return bm25s.tokenize(of, stopwords="en", stemmer=stemmer, show_progress=False)

    def build(of: list[str]) -> Any:
        index = bm25s.BM25(k1=1.2, b=0.75)
        index.index(tokens(of), show_progress=False)
        index.save(folder)
        return index

    build_s, memory, _ = _grown(lambda: build(texts[:-_ADDED]))
    add_s, _ = _timed(lambda: build(texts))
    open_s, index = _timed(lambda: bm25s.BM25.load(folder, mmap=True))

    def search(query: str) -> np.ndarray:
        return index.retrieve(tokens([query]), k=_K, show_progress=False).documents[0]

    times, found = _each(queries, search)
    return {
        "build, s": build_s,
        "memory of the build, MB": memory,
        "disk, MB": sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        "add 1,000, s": add_s,
        "open, ms": 1000 * open_s,
        **times,
        "found": [hits[:10].tolist() for hits in found],
    }


def _each(queries: list[str], search: Callable[[str], Any]) -> tuple[dict[str, float], list[Any]]:
    search(queries[0])
    taken, found = zip(
        *(_timed(lambda query=query: search(query)) for query in queries), strict=True
    )
    times = {
        "query, ms, median": 1000 * statistics.median(taken),
        "query, ms, 95 %": 1000 * float(np.percentile(taken, 95)),
    }
    return times, list(found)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def _grown(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, megabytes that this process grew by meanwhile (Linux), and the result."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present
    before = _peak_mb()
    seconds, result = _timed(call)
    return seconds, _peak_mb() - before, result


def _peak_mb() -> float:
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 1e3


def _in_a_process(system: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    with (
        multiprocessing.get_context("spawn").Pool(1) as pool,
        tempfile.TemporaryDirectory() as name,
    ):
        return pool.apply(system, (*arguments, Path(name)))


def encode_rate(texts: list[str], count: int) -> float:
    """Passages a second of the default encoder."""
    encoder = Encoder.load(DEFAULT_ENCODER)
    passages = [Passage(str(n), "", text) for n, text in enumerate(texts[:: len(texts) // count])]
    encoder.encode_passages(passages[:32])
    return len(passages) / _timed(lambda: encoder.encode_passages(passages))[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The lexical leg beside bm25s.")
    parser.add_argument("--quick", action="store_true", help="few passages, under a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--data", type=Path, help="a folder of BEIR folders; default: pydoc")
    parser.add_argument("--count", type=int, help="how many passages")
    arguments = parser.parse_args()
    count = arguments.count or (4_000 if arguments.quick else 200_000)
    texts = real_texts(arguments.data, count)
    asked = texts[:: max(1, count // (50 if arguments.quick else 500))]
    queries = [" ".join(text.split()[:10]) for text in asked]
    systems = {
        name: _in_a_process(system, texts, queries)
        for name, system in (("ours (tantivy)", ours), ("bm25s", bm25s_peer))
    }
    mine, theirs = (system.pop("found") for system in systems.values())
    # A text that is repeated stands in for any of its copies.
    same = [
        len({texts[n] for n in a} & {texts[n] for n in b}) / max(1, len({texts[n] for n in a}))
        for a, b in zip(mine, theirs, strict=True)
    ]
    rate = encode_rate(texts, 64 if arguments.quick else 512)
    build_s = systems["ours (tantivy)"]["build, s"]
    result = {
        **provenance(),
        "passages": len(texts),
        "megabytes of text": round(sum(map(len, texts)) / 1e6, 1),
        "passages encoded a second": round(rate, 1),
        "share of the leg in a build": round(build_s / (build_s + len(texts) / rate), 5),
        "of our best ten texts bm25s has": round(float(np.mean(same)), 4),
        "systems": {
            name: {row: round(value, 3) for row, value in rows.items()}
            for name, rows in systems.items()
        },
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        if name != "systems":
            print(f"{name:<36} {value}")
    print(f"{'':<36} " + "".join(f"{name:>16}" for name in systems))
    for row in systems["bm25s"]:
        print(f"{row:<36} " + "".join(f"{rows[row]:>16.3f}" for rows in systems.values()))


if __name__ == "__main__":
    main()
