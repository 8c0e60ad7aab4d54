"""Several processes of this machine encode, one a device or a share of the cores; this one writes.

Enters: numbered shards. Leaves: their records, in order. Passages go to a process over a pipe and
vectors come back. A process that loses this one ends at once, in the middle of a shard too.

    with ProcessEngine(LoadEncoder("minilm"), ["cuda:0", "cuda:1"], workers=2) as engine: ...
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

import numpy as np

from configs.formats.chunks import TokenCounter
from index.manifest.manifest import EncoderRecord
from index.manifest.segments import ShardRecord
from retrieval.engines.loading import LoadEncoder, cores
from retrieval.engines.protocol import NumberedShard, WriteShard

# One that is encoded and one that waits in the pipe, so that no process is idle between two.
_SHARDS_A_WORKER = 2
# In memory at most, for each worker: a slow one does not stop the others at once.
_SHARDS_IN_MEMORY = 4
_SECONDS_TO_END = 5


class _Encoded(NamedTuple):
    number: int
    vectors: np.ndarray
    truncated: int


class _Failure(NamedTuple):
    message: str
    of_input: bool


class ProcessEngine:
    """`workers` processes, each with an encoder of its own; they end with the block."""

    remote = False

    def __init__(self, load: LoadEncoder, devices: Sequence[str | None], workers: int) -> None:
        self._load = load
        threads = max(1, cores() // workers)
        self._workers = [
            _Worker(number, workers, load, devices[number % len(devices)], threads)
            for number in range(workers)
        ]

    def __enter__(self) -> "ProcessEngine":
        """Raises what loading the encoder raises there."""
        try:
            for worker in self._workers:
                worker.start()
            self.record = self._loaded()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        for worker in self._workers:
            worker.end()

    def _loaded(self) -> EncoderRecord:
        records = [worker.receive() for worker in self._workers]
        if any(record != records[0] for record in records):
            raise ValueError("the encoder changed while several processes loaded it; start again")
        assert isinstance(records[0], EncoderRecord)
        return records[0]

    def token_counter(self) -> TokenCounter:
        """That of an encoder which is loaded for its tokenizer, and not kept."""
        return self._load(device="cpu").token_counter()

    def records(self, shards: Iterable[NumberedShard], write: WriteShard) -> Iterator[ShardRecord]:
        """The record of every shard, in order; `write` is called here."""
        shards = iter(shards)
        begun: deque[NumberedShard] = deque()
        done: dict[int, _Encoded] = {}
        left = True
        while True:
            while left and len(begun) < _SHARDS_IN_MEMORY * len(self._workers):
                worker = min(self._workers, key=lambda worker: worker.owed)
                if worker.owed == _SHARDS_A_WORKER:
                    break
                if left := (shard := next(shards, None)) is not None:
                    worker.send(shard)
                    begun.append(shard)
            if not begun:
                return
            if encoded := done.pop(begun[0].number, None):
                number, passages = begun.popleft()
                yield write(number, passages, encoded.vectors, encoded.truncated)
                continue
            for worker in _with_news(self._workers):
                received = worker.receive()
                assert isinstance(received, _Encoded)
                done[received.number] = received


class _Worker:
    """One process and this end of its pipe; `owed` shards are there and not back."""

    def __init__(
        self, number: int, of: int, load: LoadEncoder, device: str | None, threads: int
    ) -> None:
        self.owed = 0
        self._name = f"encoding process {number + 1} of {of}"
        # Spawned, not forked: threads of torch and CUDA do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.pipe, self._other_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(self._other_end, load, device, threads), daemon=True
        )

    def start(self) -> None:
        self._process.start()
        self._other_end.close()  # else nobody would see that the process is gone

    def end(self) -> None:
        self.pipe.close()
        if self._process.pid is not None:
            self._process.terminate()
            self._process.join()

    def send(self, shard: NumberedShard) -> None:
        try:
            self.pipe.send(shard)
        except OSError:
            raise self._gone() from None
        self.owed += 1

    def receive(self) -> EncoderRecord | _Encoded:
        """What comes next; raises what the process raised, and `RuntimeError` if it is gone."""
        try:
            received = self.pipe.recv()
        except (EOFError, OSError):
            raise self._gone() from None
        if isinstance(received, _Failure):
            raise (ValueError if received.of_input else RuntimeError)(received.message)
        if isinstance(received, _Encoded):
            self.owed -= 1
        return received

    def _gone(self) -> RuntimeError:
        self._process.join(_SECONDS_TO_END)
        code = self._process.exitcode
        how = f"ended with {code}"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        return RuntimeError(
            f"{self._name} {how}; the shards before it are kept and --resume goes on: if memory "
            f"ran out, with fewer --workers"
        )


def _with_news(workers: Sequence[_Worker]) -> list[_Worker]:
    ready = wait([worker.pipe for worker in workers if worker.owed])
    return [worker for worker in workers if worker.pipe in ready]


def _serve(pipe: Connection, load: LoadEncoder, device: str | None, threads: int) -> None:
    """What a process does: load the encoder, say which it is, encode whatever comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends the others
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # the tokenizer's
    waiting: queue.SimpleQueue[NumberedShard] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, waiting), daemon=True).start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        try:
            encoder = load(device=device, threads=threads)
            pipe.send(encoder.record)
            while True:
                number, passages = waiting.get()
                pipe.send(_Encoded(number, *encoder.encode_passages(passages)))
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            of_input = isinstance(error, ValueError | OSError)
            name = "" if of_input else f"{type(error).__name__}: "
            pipe.send(_Failure(f"{name}{error}", of_input))


def _receive(pipe: Connection, waiting: "queue.SimpleQueue[NumberedShard]") -> None:
    """Take what comes at once: whoever sends must not wait for one who sends to them."""
    try:
        while True:
            waiting.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)  # nobody is there for what is being encoded
