"""Checks in processes of their own: Triton compiles for seconds, and a fault ends one process.

In: tasks. Out: rows of a `Report`, as they come.

    run_tasks(report, tasks, workers=6, seconds=120)
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import NamedTuple, Protocol

from measuring.report import Report


class Finding(NamedTuple):
    """An error beside its bound, and `where` it is largest."""

    what: str
    error: float
    bound: float
    where: str


class Task(Protocol):
    """What a worker can be given."""

    @property
    def name(self) -> str:
        """As a row names it."""

    def check(self) -> list[Finding]:
        """Do it."""


def run_tasks(report: Report, tasks: Sequence[Task], *, workers: int, seconds: float) -> None:
    """Check every task and tell its findings; what is not done after `seconds` is told as skipped.

    A process starts anew, for one that was forked could not use the GPU. When one of them dies,
    what it and the others had not finished is told as failed.
    """
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_share, initargs=(workers,))
    waiting: dict[Future[list[Finding]], Task] = {pool.submit(_do, task): task for task in tasks}
    try:
        for future in as_completed(list(waiting), timeout=max(seconds, 0)):
            task = waiting.pop(future)
            try:
                for found in future.result():
                    report.check("check", found.what, found.error, found.bound, where=found.where)
            except Exception as error:
                report.failed("check", task.name, error)
    except TimeoutError:
        reason = f"not done after the {seconds:.0f} s that were left for checks"
        report.skipped("check", [task.name for task in waiting.values()], reason)
    finally:
        pool.shutdown(wait=not waiting, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.kill()


def _share(workers: int) -> None:
    """A worker takes its share of the processor's cores."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


def _do(task: Task) -> list[Finding]:
    return task.check()
