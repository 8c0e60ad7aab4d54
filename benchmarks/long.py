"""Lists and documents that are too long to read at once, beside chunks and a cross-encoder.

Enters: options. Leaves: one table on stdout, a line for each size and system.

    candidates  10,000 passages of 100 tokens: the full read, cascades of several budgets (first
                scores: BM25 over the list), and a cross-encoder of MiniLM's shape on every pair
    document    one document of a million tokens: `rerank_documents`, which gives spans, and the
                same blocks as chunks, each a pair for the cross-encoder

Every system runs in a process of its own for each size; all take turns, and a ratio is the median
over rounds of times taken one after the other. Memory is anonymous (what can't be read again from a
file): the most that a process held, and that less what it held when its model was loaded. What
reads more than `--full-up-to` tokens is left out, but for what is to be shown: the cascade and
`find`. The cross-encoder's head is untrained: its time is that of a trained one.

    python benchmarks/long.py --parts document --tokens 10000 100000 --json
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measuring.answering import Answering
from measuring.encoder_systems import SYSTEMS, quiet
from passages import QUERY, make_passages
from provenance import provenance

_CANDIDATE_TOKENS = 100
_SENTENCE_TOKENS = 20
_OURS, _PEER, _CASCADE = "ours", "cross-encoder", "cascade"
_SAMPLED_EVERY_S = 0.01
# A call that takes so long is not repeated.
_LONG_S = 30.0
Call = Callable[[], object]


def document(tokens: int) -> str:
    """Made-up sentences in paragraphs: their lengths count, their words do not."""
    sentences = make_passages(tokens // _SENTENCE_TOKENS, _SENTENCE_TOKENS)
    told = [sentence.capitalize() + "." for sentence in sentences]
    return "\n\n".join(" ".join(told[start : start + 8]) for start in range(0, len(told), 8))


def call_of(part: str, system: str, dtype: str, size: int) -> tuple[Call, Call]:
    """A system's small call that warms it up, and the one to be timed."""
    from rerank import BlockRanker

    if system != _PEER:
        ranker = BlockRanker.from_pretrained("mini", "cpu", dtype)
    if part == "candidates":
        passages, few = make_passages(size, _CANDIDATE_TOKENS), make_passages(20, 20)
        if system.startswith(_CASCADE):
            budget = int(system.removeprefix(_CASCADE))
            return (
                lambda: ranker.rerank(QUERY, few, budget_tokens=200),
                lambda: ranker.rerank(QUERY, passages, budget_tokens=budget),
            )
        prepare = SYSTEMS[system]("mini", "cpu", dtype)
        return prepare(few), prepare(passages)
    text, short = document(size), document(400)
    if system == _OURS:
        return (
            lambda: ranker.rerank_documents(QUERY, [short]),
            lambda: ranker.rerank_documents(QUERY, [text]),
        )
    prepare = SYSTEMS[_PEER]("", "cpu", dtype)

    def rank(whole: str) -> Call:
        return lambda: prepare(chunks_of(whole))()

    return rank(short), rank(text)


def chunks_of(text: str) -> list[str]:
    """The blocks that `rerank_documents` cuts of `text`, without a model of ours in memory."""
    from transformers import AutoTokenizer

    from configs.formats.chunks import chunks
    from configs.models import MINILM, find_model
    from rerank.documents.blocks import Cut

    tokenizer = AutoTokenizer.from_pretrained(find_model(MINILM))

    def count(texts: list[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(texts, add_special_tokens=False).input_ids]

    return [text[start:end] for start, end in chunks(text, count, *Cut())]


def anonymous_mb() -> float:
    """Megabytes of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1000
    return float("nan")


def work(part: str, system: str, dtype: str, size: int) -> None:
    """A worker: for each line in, one call and a line {s, peak_mb} out; first {loaded_mb}."""
    quiet()
    warm, call = call_of(part, system, dtype, size)
    warm()
    print(json.dumps({"loaded_mb": anonymous_mb()}), flush=True)
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLED_EVERY_S):
            peak[0] = max(peak[0], anonymous_mb())

    for _ in sys.stdin:
        ended.clear()
        watcher = threading.Thread(target=watch)
        watcher.start()
        begun = time.perf_counter()
        call()
        seconds = time.perf_counter() - begun
        ended.set()
        watcher.join()
        print(json.dumps({"s": seconds, "peak_mb": max(peak[0], anonymous_mb())}), flush=True)


class Worker(Answering):
    """The process that one system runs in."""

    def __init__(self, part: str, system: str, dtype: str, size: int) -> None:
        super().__init__([sys.executable, __file__, "--worker", part, system, dtype, str(size)])


def measure(
    part: str, size: int, systems: Sequence[str], dtype: str, rounds: int
) -> list[dict[str, Any]]:
    """A row a system; ratios are to the first one's times."""
    workers = {system: Worker(part, system, dtype, size) for system in systems}
    times: dict[str, list[float]] = {system: [] for system in systems}
    peaks: dict[str, float] = {}
    for turn in range(rounds):
        for system, worker in workers.items():
            if turn and times[system][0] > _LONG_S:
                continue
            answer = worker.asked()
            times[system].append(answer["s"])
            peaks[system] = answer["peak_mb"]
    rows = []
    for system, worker in workers.items():
        worker.close()
        pairs = zip(times[system], times[systems[0]], strict=False)
        row = {
            "part": part,
            "size": size,
            "system": system,
            "s": statistics.median(times[system]),
            "calls": len(times[system]),
            "times_the_first": statistics.median(own / first for own, first in pairs),
            "peak_mb": peaks[system],
            "above_loaded_mb": peaks[system] - worker.loaded_mb,
        }
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def systems_of(part: str, size: int, budgets: Sequence[int], full_up_to: int) -> list[str]:
    """What is measured at a size: the peers and the full read as far as `full_up_to` tokens."""
    if part == "document":
        return [_OURS, _PEER] if size <= full_up_to else [_OURS]
    cascades = [f"{_CASCADE}{budget}" for budget in budgets]
    whole = size * _CANDIDATE_TOKENS
    return [_OURS, *cascades, _PEER] if whole <= full_up_to else cascades


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line a row."""
    lines = [
        "part             size  system               s  calls  times  peak MB  above loaded MB"
    ]
    for row in rows:
        lines.append(
            f"{row['part']:<10} {row['size']:>10}  {row['system']:<13} {row['s']:>8.2f} "
            f"{row['calls']:>6} {row['times_the_first']:>6.2f} {row['peak_mb']:>8.0f} "
            f"{row['above_loaded_mb']:>16.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = ("candidates", "document")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--budgets", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--tokens", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--full-up-to", type=int, default=100_000, help="(%(default)s tokens)")
    parser.add_argument("--dtype", default="float32", help="of the models (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        part, system, dtype, size = arguments.worker
        work(part, system, dtype, int(size))
        return
    if arguments.quick:
        arguments.counts, arguments.budgets, arguments.tokens = [20, 60], [1000], [1000, 4000]
        arguments.rounds = 1
    sizes = {"candidates": arguments.counts, "document": arguments.tokens}
    rows = []
    for part in arguments.parts:
        for size in sizes[part]:
            systems = systems_of(part, size, arguments.budgets, arguments.full_up_to)
            rows += measure(part, size, systems, arguments.dtype, arguments.rounds)
    if arguments.json:
        print(json.dumps({"provenance": provenance(), "dtype": arguments.dtype, "rows": rows}))
        return
    print(" | ".join(f"{name} {value}" for name, value in provenance().items()))
    print(table(rows))


if __name__ == "__main__":
    main()
