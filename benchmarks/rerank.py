"""The reranker beside its peers, in one run on one machine, on the same passages.

Enters: options. Leaves: one table on stdout: milliseconds a query for N passages, and the memory
it takes, of our reranker with and without a cache, of a cross-encoder and of full attention, which
`encoder_systems.py` describes.

Every system runs in a process of its own, and all take turns: a ratio is the median over rounds of
times taken one after the other, so that a machine that is busy now and then is so for all; CPU
time, all threads together, is told beside the clock's. Memory is the most that the process has held
so far (N grows) above what it held when its model was loaded.

`--before FOLDER` adds our reranker as it is in another checkout of this repository.

    python benchmarks/rerank.py --quick --json
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

# This file is called as the package it measures, and its folder comes first otherwise.
# A worker may be told to measure another checkout's packages.
sys.path.insert(
    0, os.environ.get("BLOCKSEEK_MEASURED_ROOT") or str(Path(__file__).resolve().parent.parent)
)

import numpy as np
import torch
from measuring.answering import Answering
from measuring.encoder_systems import OPTIONAL_SYSTEMS, SYSTEMS, Rank, quiet
from passages import make_passages
from provenance import provenance

from rerank.ranker import DEFAULT_RERANKER

Times = dict[str, dict[int, list[float]]]  # by system and N, one a round


class Plan(NamedTuple):
    """What is measured: `full` reads all passages as one text, and does not at more than that."""

    counts: tuple[int, ...]
    mean_tokens: int
    rounds: int
    full_up_to: int


PLAN = Plan((10, 50, 100, 200, 500), 100, 5, 500)
QUICK = Plan((10, 25, 50), 60, 3, 25)
# Our reranker of another checkout.
BEFORE = "before"
ALL_SYSTEMS = {**SYSTEMS, **OPTIONAL_SYSTEMS}
# A call that takes so much CPU is not repeated.
LONG_CPU_MS = 30_000


def held_mb() -> float:
    """The most memory this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(system: str, model: str, dtype: str) -> None:
    """A worker: a line {count, mean_tokens} in, one call, a line {ms, cpu_ms, peak_mb} out."""
    quiet()
    torch.manual_seed(0)
    prepare = ALL_SYSTEMS[system](model, "cpu", dtype)
    prepare(make_passages(4, 8))()
    loaded = held_mb()

    @cache
    def ready(count: int, mean_tokens: int) -> Rank:
        return prepare(make_passages(count, mean_tokens))

    print(json.dumps({"loaded_mb": loaded}), flush=True)
    for line in sys.stdin:
        call = ready(**json.loads(line))
        start, cpu_start = time.perf_counter(), time.process_time()
        call()
        answer = {
            "ms": 1000 * (time.perf_counter() - start),
            "cpu_ms": 1000 * (time.process_time() - cpu_start),
            "peak_mb": held_mb() - loaded,
        }
        print(json.dumps(answer), flush=True)


class Worker(Answering):
    """The process that one system runs in, by the packages of `root` ("": those beside this)."""

    def __init__(self, system: str, model: str, dtype: str, root: str = "") -> None:
        command = [sys.executable, __file__, "--worker", system, "--model", model, "--dtype", dtype]
        super().__init__(command, {"BLOCKSEEK_MEASURED_ROOT": root})

    def call(self, count: int, mean_tokens: int) -> dict[str, float]:
        """One call: its milliseconds, and the peak of memory so far."""
        return self.asked(json.dumps({"count": count, "mean_tokens": mean_tokens}))


def measure(
    plan: Plan, model: str, systems: Sequence[str], dtype: str, before: str = ""
) -> dict[str, Any]:
    """Times, memory and ratios of every system at every N."""
    from rerank import BlockRanker

    counter = BlockRanker.from_pretrained(model, "cpu")
    tokens = {n: sum(counter.token_counts(make_passages(n, plan.mean_tokens))) for n in plan.counts}
    del counter
    workers = {system: Worker(system, model, dtype) for system in systems}
    if before:
        workers[BEFORE] = Worker("ours", model, dtype, before)
    systems = list(workers)
    times: Times = {system: {} for system in systems}
    cpu_times: Times = {system: {} for system in systems}
    peaks: dict[str, dict[int, float]] = {system: {} for system in systems}
    for count in plan.counts:
        running = [s for s in systems if s != "full" or count <= plan.full_up_to]
        for turn in range(1 + plan.rounds):
            for system in list(running):
                answer = workers[system].call(count, plan.mean_tokens)
                peaks[system][count] = answer["peak_mb"]
                if turn == 0 and answer["cpu_ms"] > LONG_CPU_MS:
                    running.remove(system)
                elif turn == 0:
                    continue  # the first call warms up
                times[system].setdefault(count, []).append(answer["ms"])
                cpu_times[system].setdefault(count, []).append(answer["cpu_ms"])
        done = {s: round(row[count], 1) for s, row in medians(times).items() if count in row}
        print(f"{count} passages, ms: {done}", file=sys.stderr)
    for worker in workers.values():
        worker.close()
    return {
        "model": model,
        "dtype": dtype,
        "passage_tokens": tokens,
        "ms": medians(times),
        "cpu_ms": medians(cpu_times),
        "peak_mb": peaks,
        "loaded_mb": {system: worker.loaded_mb for system, worker in workers.items()},
        "ratios": ratios(times),
        "cpu_ratios": ratios(cpu_times),
        "growth": growth(cpu_times, tokens),
    }


def medians(times: Times) -> dict[str, dict[int, float]]:
    """The median over rounds, by system and N."""
    return {s: {n: statistics.median(t) for n, t in row.items()} for s, row in times.items()}


def ratios(times: Times) -> dict[str, dict[int, float]]:
    """How many times longer a peer takes than one of ours: the median over rounds."""
    found: dict[str, dict[int, float]] = {}
    for own in ("ours", "cached"):
        for peer in ("cross-encoder", "int8", "full", BEFORE):
            both = set(times.get(own, {})) & set(times.get(peer, {}))
            for n in sorted(both):
                rounds = zip(times[peer][n], times[own][n], strict=False)
                row = found.setdefault(f"{peer} / {own}", {})
                row[n] = statistics.median(a / b for a, b in rounds)
    return found


def growth(times: Times, tokens: dict[int, int]) -> dict[str, float]:
    """The exponent p of CPU ~ tokens^p between the second smallest and the largest N."""
    found = {}
    for system, row in times.items():
        low, high = sorted(row)[len(row) > 1], max(row)
        if low < high:
            time_ratio = statistics.median(row[high]) / statistics.median(row[low])
            found[system] = float(np.log(time_ratio) / np.log(tokens[high] / tokens[low]))
    return found


def print_tables(result: dict[str, Any]) -> None:
    """The result as text."""
    for name in (*provenance(), "model", "dtype"):
        print(f"{name:<24} {result[name]}")
    counts = list(result["passage_tokens"])

    def line(name: str, row: dict[int, float], digits: int, note: str) -> None:
        cells = (f"{row[n]:>10.{digits}f}" if n in row else f"{'-':>10}" for n in counts)
        print(f"{name:<24} " + " ".join(cells) + f"  {note}")

    line("passages", {n: n for n in counts}, 0, "")
    line("their tokens", result["passage_tokens"], 0, "")
    for system, row in result["ms"].items():
        line(system, row, 1, "ms a query")
    for name, row in result["ratios"].items():
        line(name, row, 2, "times as long")
    for system, row in result["cpu_ms"].items():
        line(system, row, 1, "ms of CPU a query, all threads")
    for name, row in result["cpu_ratios"].items():
        line(name, row, 2, "times as much CPU")
    for system, row in result["peak_mb"].items():
        line(system, row, 0, f"MiB at most, above {result['loaded_mb'][system]:.0f} when loaded")
    for system, power in result["growth"].items():
        print(f"{system:<24} CPU grows as tokens to the power {power:.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The reranker beside its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer passages, about a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--model", default=DEFAULT_RERANKER, help="our model (%(default)s)")
    parser.add_argument("--counts", type=int, nargs="+", help="numbers of passages")
    parser.add_argument("--rounds", type=int, help="timed calls each")
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=list(ALL_SYSTEMS),
        default=list(SYSTEMS),
        help="all but int8, which needs onnx, onnxscript and onnxruntime",
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--before", default="", metavar="FOLDER", help="another checkout")
    parser.add_argument("--worker", choices=list(ALL_SYSTEMS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.model, arguments.dtype)
        return
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]
    if "int8" in arguments.systems and missing:
        parser.error(f"the system int8 needs {', '.join(missing)}: install, or leave it out")
    plan = QUICK if arguments.quick else PLAN
    plan = plan._replace(
        counts=tuple(arguments.counts or plan.counts), rounds=arguments.rounds or plan.rounds
    )
    result = measure(plan, arguments.model, arguments.systems, arguments.dtype, arguments.before)
    result = {**provenance(), **result}
    if arguments.json:
        print(json.dumps(result))
    else:
        print_tables(result)


if __name__ == "__main__":
    main()
