"""The service under load, beside the same requests one by one.

Enters: options. Leaves: a table on stdout for each kind of work: answers a second for one client
and for many, times of an answer, statuses, and the most memory that the server had in the first and
in the last quarter.

The server is a process of its own, with an index of made passages; the clients are one process
beside it, on the same cores. Every query is another one: nothing is remembered.

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
WORK = ("search", "rerank", "embeddings", "mixed")
Request = tuple[str, dict[str, Any]]


def requests_of(work: str) -> Iterator[Request]:
    """Endless requests, each with words of its own: the same ones for whoever starts anew."""
    random = np.random.default_rng(1)
    for number in count():
        words = " ".join(random.choice(WORDS, random.integers(2, 9)))
        query = f"{words} {number}"
        documents = make_passages(8, 16, seed=number)
        kinds: dict[str, Request] = {
            "search": ("/v1/search", {"query": query, "rerank": False}),
            "rerank": ("/v1/rerank", {"query": query, "documents": documents}),
            "embeddings": ("/v1/embeddings", {"input": query, "encoding_format": "base64"}),
        }
        yield kinds[work if work != "mixed" else WORK[number % 3]]


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


async def watch_memory(pid: int, sizes: list[int]) -> None:
    """Add the resident bytes of a process to `sizes`, four times a second."""
    while True:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        sizes.append(pages * os.sysconf("SC_PAGE_SIZE"))
        await asyncio.sleep(0.25)


async def measure(port: int, pid: int, work: str, clients: int, seconds: float) -> dict[str, Any]:
    """One by one and together, in turns; then what that was."""
    requests = requests_of(work)
    await load(port, requests, clients, min(3.0, seconds / 4))  # warm
    rates: dict[str, list[float]] = {"one": [], "many": []}
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    sizes: list[int] = []
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
    quarter = max(1, len(sizes) // 4)
    ratio = statistics.median(b / a for a, b in zip(rates["one"], rates["many"], strict=True))
    milliseconds = 1000 * np.percentile(taken, [50, 95, 99])
    return {
        "requests": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "one client, answers a second": round(statistics.median(rates["one"]), 1),
        f"{clients} clients, answers a second": round(statistics.median(rates["many"]), 1),
        "together / one by one": round(ratio, 2),
        "p50 / p95 / p99, ms": " / ".join(f"{value:.0f}" for value in milliseconds),
        "MiB in the first and last quarter": " / ".join(
            f"{max(part) / 2**20:.0f}" for part in (sizes[:quarter], sizes[-quarter:])
        ),
    }


def serve(index: Path, threads: int) -> tuple[subprocess.Popen[str], int]:
    """The server, and the port that it listens on."""
    command = [sys.executable, "-m", "retrieval.serve", str(index), "--rerank", "mini"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment
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
