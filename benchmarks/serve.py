"""The service under load, beside the same requests one by one.

Enters: options. Leaves: a table on stdout for each kind of work: answers a second for one client
and for many, times of an answer, statuses, and the server's own memory (anonymous pages: what it
reads of files is the system's to take back) as the most of every 10 seconds.

The server is a process of its own, with an index of made passages and what the reranker has read of
them; the clients are one process beside it, on the same cores. One server with the same options
answers one client and many, with requests of the same kinds. Every query is another one.

    search          10 hits, not reranked
    search+rerank   10 hits, reranked from the passage cache beside the index
    rerank-new      8 texts of about 16 words that nobody sent before
    rerank-again    8 texts of about 60 words, of 200 that come again and again under other queries
    embeddings      one text
    mixed           of ten requests 5 search+rerank, 2 search, 1 each of the others

    python benchmarks/serve.py --quick
    python benchmarks/serve.py --work search --json
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from passages import WORDS, make_passages
from provenance import provenance

from index.records import Passage
from retrieval.build import IndexSettings, build_index

ROOT = Path(__file__).resolve().parent.parent
_CACHED = "search+rerank"
MIXED = (
    *(_CACHED, "search", _CACHED, "rerank-again", _CACHED),
    *("rerank-new", _CACHED, "search", _CACHED, "embeddings"),
)
WORK = ("search", "search+rerank", "rerank-new", "rerank-again", "embeddings", "mixed")
SAMPLE_SECONDS = 0.25
Request = tuple[str, dict[str, Any]]


def requests_of(work: str) -> Iterator[Request]:
    """Endless requests, each with words of its own: the same ones for whoever starts anew."""
    random = np.random.default_rng(1)
    known = make_passages(200, 60, seed=1)
    for number in count():
        words = " ".join(random.choice(WORDS, random.integers(2, 9)))
        query = f"{words} {number}"
        kind = work if work != "mixed" else MIXED[number % len(MIXED)]
        if kind == "embeddings":
            yield "/v1/embeddings", {"input": query, "encoding_format": "base64"}
        elif kind.startswith("search"):
            yield "/v1/search", {"query": query, "rerank": kind == _CACHED}
        else:
            new = [f"{text} {number}" for text in make_passages(8, 16, seed=number)]
            again = [known[place] for place in random.choice(len(known), 8, replace=False)]
            documents = new if kind == "rerank-new" else again
            yield "/v1/rerank", {"query": query, "documents": documents}


class Client:
    """One connection that is kept, and no more of HTTP than the service speaks."""

    async def __aenter__(self) -> "Client":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def post(self, route: str, body: dict[str, Any]) -> int:
        """The status of the answer, which is read whole."""
        content = json.dumps(body).encode()
        head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        self._writer.write(head.encode() + content)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(line for line in lines if line.startswith(b"content-length:"))
        await self._reader.readexactly(int(length.split(b":")[1]))
        return int(lines[0].split()[1])


async def load(
    port: int, requests: Iterator[Request], clients: int, seconds: float
) -> tuple[list[float], Counter[int], float]:
    """Seconds of each answer, their statuses, and how long it all took."""
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    started = time.perf_counter()

    async def ask() -> None:
        async with Client(port) as client:
            while time.perf_counter() - started < seconds:
                route, body = next(requests)
                before = time.perf_counter()
                status = await client.post(route, body)
                statuses[status] += 1
                if status == 200:
                    taken.append(time.perf_counter() - before)
                else:
                    await asyncio.sleep(0.5)

    await asyncio.gather(*(ask() for _ in range(clients)))
    return taken, statuses, time.perf_counter() - started


async def watch_memory(pid: int, sizes: list[float]) -> None:
    """Add the MiB of a process that are its own to `sizes`, four times a second."""
    while True:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        own = next(line for line in lines if line.startswith("Anonymous:"))
        sizes.append(int(own.split()[1]) / 1024)
        await asyncio.sleep(SAMPLE_SECONDS)


async def measure(port: int, pid: int, work: str, clients: int, seconds: float) -> dict[str, Any]:
    """One by one and together, in turns; then what that was."""
    requests = requests_of(work)
    await load(port, requests, clients, min(3.0, seconds / 4))  # warm
    rates: dict[str, list[float]] = {"one": [], "many": []}
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    sizes: list[float] = []
    watching = asyncio.ensure_future(watch_memory(pid, sizes))
    turns = 4
    for _ in range(turns):
        alone, _, took = await load(port, requests, 1, seconds / turns / 4)
        rates["one"].append(len(alone) / took)
        together, told, took = await load(port, requests, clients, seconds / turns)
        rates["many"].append(len(together) / took)
        taken += together
        statuses += told
    watching.cancel()
    step = round(10 / SAMPLE_SECONDS)
    ratio = statistics.median(b / a for a, b in zip(rates["one"], rates["many"], strict=True))
    milliseconds = 1000 * np.percentile(taken, [50, 95, 99])
    return {
        "requests": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "one client, answers a second": round(statistics.median(rates["one"]), 1),
        f"{clients} clients, answers a second": round(statistics.median(rates["many"]), 1),
        "together / one by one": round(ratio, 2),
        "p50 / p95 / p99, ms": " / ".join(f"{value:.0f}" for value in milliseconds),
        "MiB, the most of each 10 seconds": " ".join(
            f"{max(sizes[start : start + step]):.0f}" for start in range(0, len(sizes), step)
        ),
    }


def environment(threads: int) -> dict[str, str]:
    """Of processes beside this one: our packages, and so many threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}


def serve(index: Path, threads: int) -> tuple[subprocess.Popen[str], int]:
    """The server, and the port that it listens on."""
    command = [sys.executable, "-m", "retrieval.serve", str(index), "--rerank", "mini"]
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment(threads)
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("serving on "):
        sys.exit("the service did not start")
    return process, int(line.rpartition(":")[2])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The service under load.")
    parser.add_argument("--quick", action="store_true", help="10 seconds of load, not 60")
    parser.add_argument("--json", action="store_true", help="one JSON object a kind of work")
    parser.add_argument("--work", choices=WORK, action="append", help="default: all, one by one")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, help="of load, for each kind of work")
    parser.add_argument("--passages", type=int, default=500, help="in the index (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    seconds = arguments.seconds or (10.0 if arguments.quick else 60.0)
    with tempfile.TemporaryDirectory() as temporary:
        corpus, index = Path(temporary) / "corpus.jsonl", Path(temporary) / "index"
        texts = make_passages(arguments.passages, 60)
        passages = (Passage(str(number), "", text) for number, text in enumerate(texts))
        lines = (json.dumps({"_id": p.id, "text": p.text}) for p in passages)
        corpus.write_text("\n".join(lines), encoding="utf-8")
        build_index(str(corpus), index, IndexSettings())
        cached = index / "rerank-cache"
        command = [sys.executable, "-m", "rerank", "cache", "build", "mini"]
        subprocess.run(
            [*command, "--passages", str(corpus), "--out", str(cached)],
            env=environment(arguments.threads),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        process, port = serve(index, arguments.threads)
        try:
            for work in arguments.work or WORK:
                found = asyncio.run(measure(port, process.pid, work, arguments.clients, seconds))
                tell(arguments, {"work": work, **found})
        finally:
            process.terminate()
            process.wait()


def tell(arguments: argparse.Namespace, found: dict[str, Any]) -> None:
    """Print one kind of work."""
    result = {**provenance(), "threads": arguments.threads, **found}
    if arguments.json:
        print(json.dumps(result), flush=True)
        return
    for name, value in result.items():
        print(f"{name:<36} {value}")
    print(flush=True)


if __name__ == "__main__":
    main()
