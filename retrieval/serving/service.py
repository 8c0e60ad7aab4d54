"""The state of a running service: its engine, its two threads, its limits, whether it drains.

Enters: settings. Leaves: a `Service`, which `app.py` asks and `swapping.py` changes.

    service = Service.start(ServiceSettings(Path("my-index"), rerank="mini"))
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from index.manifest.manifest import MANIFEST
from retrieval.serving.batching import BusyError, QueueLimits, Worker
from retrieval.serving.engine import Engine, open_index, with_reranker
from retrieval.serving.limits import Limits
from retrieval.serving.metrics import Metrics
from retrieval.serving.reranker import DEFAULT_RERANKER, Reranker, load_reranker

# What a file is told by: another one has another number, size or time.
Stamp = tuple[int, int, int] | None


@dataclass(frozen=True)
class ServiceSettings:
    """What is served. `filter` is a cosine, a filter's folder, or `index` for the one beside it.

    `kept_bytes` are for what the reranker has read of documents that come again.
    """

    index: Path
    rerank: str | None = None
    reranker: str = DEFAULT_RERANKER
    filter: str | None = None
    device: str | None = None
    kept_bytes: int = 256 << 20
    limits: Limits = field(default_factory=Limits)
    queue: QueueLimits = field(default_factory=QueueLimits)


class Service:
    """What is behind the routes. Its methods are called by the event loop's thread alone."""

    def __init__(
        self, settings: ServiceSettings, engine: Engine, reranker: Reranker | None
    ) -> None:
        """Takes an engine without its reranker, and that one."""
        self.settings = settings
        self.metrics = Metrics()
        self.draining = False
        self.running = 0
        self.swap_fault = ""
        self.stamp = stamp_of(settings.index)
        self.search = self._worker("search", _one_core)
        self.ranking = self._worker("rerank", _all_cores(_cores()))
        self._reranker = reranker
        self.engine = with_reranker(engine, reranker)
        self.metrics.swapped(self.engine.generation)

    @classmethod
    def start(cls, settings: ServiceSettings) -> "Service":
        """Load all; raises `ValueError`, in one sentence, for what can't be served."""
        engine = open_index(settings.index, filter_name=settings.filter, device=settings.device)
        reranker = None
        if settings.rerank is not None:
            reranker = load_reranker(
                settings.rerank, entry_point=settings.reranker, device=settings.device
            ).keeping(settings.kept_bytes)
        return cls(settings, engine, reranker)

    async def swap(self) -> None:
        """Open the index as it is on the disk now, beside the one served, and serve it from then.

        Requests that have begun end where they began. What can't be opened is told by
        `swap_fault`, and the one served stays.
        """
        settings, before = self.settings, self.engine
        stamp = stamp_of(settings.index)
        try:
            opened = await asyncio.to_thread(
                open_index,
                settings.index,
                filter_name=settings.filter,
                device=settings.device,
                before=before,
            )
            if self._reranker is not None:
                opened = await self._cached(opened)
        except Exception as error:  # whatever it is, the index that is open is served on
            self.swap_fault = str(error) or type(error).__name__
        else:
            self.engine, self.swap_fault = opened, ""
            self.metrics.swapped(opened.generation)
        self.stamp = stamp

    async def _cached(self, engine: Engine) -> Engine:
        """The engine with its reranker: the model checks a cache, and that thread alone asks it."""
        while True:
            try:
                found: Engine = await self.ranking.ask(self._with_reranker, engine)
                return found
            except BusyError as busy:
                await asyncio.sleep(busy.seconds)

    def _with_reranker(self, engines: Sequence[Engine]) -> list[Engine]:
        return [with_reranker(engine, self._reranker) for engine in engines]

    def stop(self, seconds: float | None = None) -> None:
        """End both threads; what waits is answered first, for at most so long."""
        self.search.stop(seconds)
        self.ranking.stop(seconds)

    def _worker(self, name: str, begin: Callable[[], None]) -> Worker:
        worker = Worker(
            name,
            self.settings.queue,
            begin=begin,
            batched=lambda count: self.metrics.batched(name, count),
        )
        self.metrics.watch(name, lambda: len(worker))
        return worker


def stamp_of(folder: Path) -> Stamp:
    """What tells one state of an index from the next; None where there is none."""
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _cores() -> int:
    import torch

    return torch.get_num_threads()


def _one_core() -> None:
    """The bits of a query's vector must not depend on how a product is divided."""
    _all_cores(1)()


def _all_cores(threads: int) -> Callable[[], None]:
    def begin() -> None:
        import torch

        # The first question makes torch set up the thread, which would undo an earlier answer.
        torch.get_num_threads()
        torch.set_num_threads(threads)

    return begin
