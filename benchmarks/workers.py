"""Checks in processes of their own: Triton compiles for seconds, and a fault ends one process alone.

In: tasks and what does one. Out: rows of a `Report`, as they come.

    run_tasks(report, "check", tasks, do, workers=6, seconds=120)
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any, Protocol

from gpu_report import Report
from kernel_checks import Finding


class Task(Protocol):
    """What a worker can be given."""

    @property
    def name(self) -> str:
        """As a row names it."""


def run_tasks(
    report: Report,
    part: str,
    tasks: Sequence[Task],
    do: Callable[[Any], Iterable[Finding]],
    *,
    workers: int,
    seconds: float,
) -> None:
    """Check every task and tell its findings; what is not done after `seconds` is told as skipped.

    A process starts anew, for one that was forked could not use the GPU. When one of them dies,
    what it and the others had not finished is told as failed.
    """
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context)
    waiting: dict[Future[Iterable[Finding]], Task] = {pool.submit(do, task): task for task in tasks}
    try:
        for future in as_completed(waiting, timeout=max(seconds, 0)):
            task = waiting.pop(future)
            try:
                for found in future.result():
                    report.check(part, found.what, found.error, found.bound, where=found.where)
            except Exception as error:
                report.failed(part, task.name, error)
    except TimeoutError:
        reason = f"not done after the {seconds:.0f} s that checks may take"
        report.skipped(part, [task.name for task in waiting.values()], reason)
    finally:
        pool.shutdown(wait=not waiting, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
