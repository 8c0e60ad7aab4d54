"""One thread that computes what many clients ask, in batches of what waits.

Enters: jobs with one request each, from coroutines. Leaves: each request's own result, or one of
three refusals. A batch is whatever waits when the thread is free: nobody waits for company, and the
busier it is the larger batches get.

    worker = Worker("search", limits)
    result = await worker.ask(engine.search, request)  # engine.search: list of requests -> results
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

# Takes requests; gives as many results, in order. An exception as a result is that request's own.
Job = Callable[[Sequence[Any]], Sequence[Any]]


class BusyError(Exception):
    """The queue is full, or the request's deadline passed in it: come again in `seconds`."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class QueueLimits:
    """How many requests may wait, how large a batch gets, and for how long one waits.

    `batch_size` counts in the unit of `ask`'s `size`; a single request may be larger.
    """

    waiting: int = 128
    batch_size: int = 256
    seconds: float = 30.0


@dataclass(eq=False)
class _Waiting:
    job: Job
    request: Any
    size: int
    until: float
    result: "Future[Any]"


class Worker:
    """A thread with a bounded queue: first come, first served."""

    def __init__(
        self,
        name: str,
        limits: QueueLimits,
        *,
        begin: Callable[[], None] = lambda: None,
        batched: Callable[[int], None] = lambda count: None,
    ) -> None:
        """`begin` is the thread's first call; `batched` is told how many requests a batch has."""
        self.name = name
        self.limits = limits
        self._batched = batched
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._seconds_each = 0.0
        self._thread = threading.Thread(target=self._serve, args=(begin,), name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    async def ask(self, job: Job, request: Any, size: int = 1) -> Any:
        """What `job` gives for `request`, computed with those that wait for the same job.

        Raises `BusyError` where too many wait or the deadline passes before its turn, and what the
        job raised or gave as this request's own exception. Cancelling takes it out of the queue.
        """
        waiting = _Waiting(job, request, size, time.monotonic() + self.limits.seconds, Future())
        with self._changed:
            if self._stopped or len(self._queue) >= self.limits.waiting:
                raise BusyError(
                    f"{len(self._queue)} requests wait and the limit is {self.limits.waiting}: "
                    f"come again later",
                    self._wait_seconds(),
                )
            self._queue.append(waiting)
            self._changed.notify()
        try:
            return await asyncio.wrap_future(waiting.result)
        finally:
            if waiting.result.cancelled():
                with self._changed, contextlib.suppress(ValueError):
                    self._queue.remove(waiting)

    def stop(self, seconds: float | None = None) -> None:
        """Let the thread end when what waits is answered; wait for it, at most so long."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(seconds)

    def _wait_seconds(self) -> int:
        return max(1, min(60, round(self._seconds_each * len(self._queue))))

    def _serve(self, begin: Callable[[], None]) -> None:
        begin()
        while batch := self._next():
            started = time.monotonic()
            live = []
            for waiting in batch:
                if not waiting.result.set_running_or_notify_cancel():
                    continue  # its client has gone
                if started > waiting.until:
                    waiting.result.set_exception(
                        BusyError(
                            f"the request waited longer than {self.limits.seconds:g} s for its "
                            f"turn: come again later",
                            self._wait_seconds(),
                        )
                    )
                    continue
                live.append(waiting)
            if not live:
                continue
            self._batched(len(live))
            for waiting, result in zip(live, _results(live), strict=True):
                if isinstance(result, BaseException):
                    waiting.result.set_exception(result)
                else:
                    waiting.result.set_result(result)
            self._seconds_each = (time.monotonic() - started) / len(live)

    def _next(self) -> list[_Waiting]:
        """The requests at the head of the queue that want the same job; none when all is over."""
        with self._changed:
            while not self._queue and not self._stopped:
                self._changed.wait()
            batch: list[_Waiting] = []
            size = 0
            while self._queue and (not batch or self._queue[0].job == batch[0].job):
                size += self._queue[0].size
                if batch and size > self.limits.batch_size:
                    break
                batch.append(self._queue.popleft())
            return batch


def _results(batch: Sequence[_Waiting]) -> Sequence[Any]:
    """A result or an exception for each of `batch`; what one got wrong is not the others' loss."""
    job = batch[0].job
    try:
        return job([waiting.request for waiting in batch])
    except Exception as error:
        if len(batch) == 1:
            return [error]
    return [_results([waiting])[0] for waiting in batch]
