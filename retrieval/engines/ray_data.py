"""A Ray Data job encodes: shards stream through a pool of actors, and each actor writes its own.

Enters: numbered shards. Leaves: their records, in order. An actor holds an encoder and writes the
files of a shard itself, into a folder that all machines see; only records come back. So many shards
are under way as keep the actors busy, whatever the size of the corpus. An actor that dies is
replaced, and its shard done again.

    with RayEngine(LoadEncoder("minilm"), ["cuda"], workers=8) as engine: ...

Without a cluster (RAY_ADDRESS, or `ray.init` of yours) one is started on this machine and ended.
"""

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from configs.formats.chunks import TokenCounter
from index.disk.schema import from_json
from index.manifest.manifest import EncoderRecord
from index.manifest.segments import ShardRecord
from retrieval.encoder import Encoder
from retrieval.engines.loading import LoadEncoder
from retrieval.engines.passage_json import read_passages, write_passages
from retrieval.engines.protocol import NumberedShard, WriteShard

# Under way at most, for each actor: a slow one does not stop the others at once.
_SHARDS_A_WORKER = 4
_CUDA = "cuda"


class RayEngine:
    """`workers` actors, by default one a GPU of the cluster with a CUDA device, else one a core."""

    remote = True

    def __init__(
        self, load: LoadEncoder, devices: Sequence[str | None], workers: int | None
    ) -> None:
        """Raises `ValueError` for several devices, and where Ray is not installed."""
        if len(devices) > 1:
            raise ValueError("Ray gives each worker a device of its own: name one, cuda say")
        try:
            import ray.data  # noqa: F401
        except ImportError:
            raise ValueError("Ray is not installed: pip install 'blockseek[ray]'") from None
        self._load = load
        self._device = devices[0]
        self._workers = workers or 0
        self._started = False

    def __enter__(self) -> "RayEngine":
        """Raises `ValueError` for an encoder that can't be loaded, or more workers than places."""
        import ray

        # Every actor loads an encoder too, and is held to be this one.
        encoder = self._load(device="cpu")
        self.record: EncoderRecord = encoder.record
        self._counter = encoder.token_counter()
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(log_to_driver=False, logging_level="ERROR")
            self._started = True
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # it narrates
        try:
            self._places()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        import ray

        if self._started:
            ray.shutdown()

    def token_counter(self) -> TokenCounter:
        """That of the encoder which every actor's is compared with; its weights are not kept."""
        return self._counter

    def _places(self) -> None:
        import ray

        resources = ray.cluster_resources()
        on_gpus = (self._device or "").startswith(_CUDA)
        kind = "GPU" if on_gpus else "CPU"
        places = int(resources.get(kind, 0))
        if (self._workers or 1) > places:
            raise ValueError(
                f"workers is {self._workers or 1}, the Ray cluster has {places} {kind}s"
            )
        self._workers = self._workers or places
        self._threads = max(1, int(resources.get("CPU", 1)) // self._workers)
        self._resources = {"num_gpus": 1, "num_cpus": 1 if on_gpus else self._threads}
        if not on_gpus:
            del self._resources["num_gpus"]

    def records(self, shards: Iterable[NumberedShard], write: WriteShard) -> Iterator[ShardRecord]:
        """The record of every shard, in order; `write` is called by the actors."""
        import ray.data

        feed = _Feed(shards, _SHARDS_A_WORKER * self._workers)
        with _context(target_max_block_size=1, enable_progress_bars=False):
            # A block, and so a task, is one shard.
            jobs = ray.data.from_items([{"feed": 0}]).map_batches(
                _fed, fn_args=(feed.queue,), batch_size=1, num_cpus=0
            )
            done = jobs.map_batches(
                _EncodeShards,
                fn_constructor_args=(self._load, self._device, self.record, write, self._threads),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=self._workers),
                **self._resources,
            )
        early: dict[int, ShardRecord] = {}
        try:
            for row in done.iter_rows():
                if fault := row["fault"]:
                    raise (ValueError if row["of_input"] else RuntimeError)(fault)
                early[row["number"]] = from_json(ShardRecord, json.loads(row["record"]))
                while feed.order and feed.order[0] in early:
                    yield early.pop(feed.order.pop(0))
                    feed.room.release()
        finally:
            feed.end()
        if feed.fault is not None:
            raise feed.fault
        if feed.order or not feed.all_read:
            raise RuntimeError(
                "the Ray job ended before all shards were done; those before are kept, and "
                "--resume goes on"
            )


@contextlib.contextmanager
def _context(**settings: Any) -> Iterator[None]:
    """Let data sets that are made inside have those settings of Ray Data, and no others."""
    from ray.data import DataContext

    context = DataContext.get_current()
    before = {name: getattr(context, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


class _Feed:
    """Reads shards in a thread of this process into a queue that Ray Data reads.

    `room` counts how many more may be read; `order` are the numbers of those under way; `all_read`
    says whether the last one was, and `fault` is what reading raised.
    """

    def __init__(self, shards: Iterable[NumberedShard], most: int) -> None:
        from ray.util.queue import Queue

        self.queue = Queue(actor_options={"num_cpus": 0})
        self.room = threading.Semaphore(most)
        self.order: list[int] = []
        self.all_read = False
        self.fault: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._read, args=(iter(shards),), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Read no further."""
        self._ended = True
        self.room.release()
        self._thread.join()
        self.queue.shutdown(force=True)

    def _read(self, shards: Iterator[NumberedShard]) -> None:
        try:
            while self.room.acquire() and not self._ended:
                if (shard := next(shards, None)) is None:
                    self.all_read = True
                    break
                self.order.append(shard.number)
                self.queue.put((shard.number, write_passages(shard.passages)))
        except BaseException as error:  # told where the records are read
            self.fault = error
        finally:
            self.queue.put(None)


def _fed(batch: dict[str, Any], queue: Any) -> Iterator[dict[str, list[Any]]]:
    """What comes out of the queue, a shard a batch, as long as the task runs."""
    while (item := queue.get()) is not None:
        number, passages = item
        yield {"number": [number], "passages": [passages]}


class _EncodeShards:
    """What an actor does: encode and write whatever shard comes."""

    def __init__(
        self,
        load: LoadEncoder,
        device: str | None,
        record: EncoderRecord,
        write: WriteShard,
        threads: int,
    ) -> None:
        self._load = load
        self._device = device
        self._wanted = record
        self._write = write
        self._threads = threads
        self._encoder: Encoder | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """One shard: its record, or what went wrong; an actor that raises would be tried again."""
        number, record, fault, of_input = int(batch["number"][0]), "", "", False
        try:
            passages = read_passages(batch["passages"][0])
            vectors, truncated = self._loaded().encode_passages(passages)
            record = json.dumps(asdict(self._write(number, passages, vectors, truncated)))
        except Exception as error:
            of_input = isinstance(error, ValueError | OSError)
            name = "" if of_input else f"{type(error).__name__}: "
            fault = f"{socket.gethostname()}: {name}{error}"
            if isinstance(error, FileNotFoundError):
                fault += "; --out must lie in a folder that all machines of the cluster share"
        return {
            "number": [number],
            "record": [record],
            "fault": [fault],
            "of_input": [of_input],
        }

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            encoder = self._load(device=self._device, threads=self._threads)
            if encoder.record != self._wanted:
                raise ValueError(
                    f"the encoder {self._wanted.name!r} is another one here than where the build "
                    f"was started"
                )
            self._encoder = encoder
        return self._encoder
