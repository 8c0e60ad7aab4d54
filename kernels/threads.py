"""Do independent pieces of CPU work in as many threads as torch may use, each piece in one.

In: a function and its arguments. Out: its results, in order.

    list(in_threads(torch.exp, [torch.ones(3), torch.zeros(2)]))

torch's own threads wait for each other at the end of every small operation, and a piece of
attention has dozens of those: on two busy cores that wait was most of the time (measured: 406
against 104 ms). Whole pieces in a thread each wait once. It also keeps the arithmetic of a piece
the same for any number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import TypeVar

import torch

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Argument], Result], arguments: Sequence[Argument]
) -> Iterator[Result]:
    """Yield function(argument) of each, in order, computed without gradients.

    A lone piece runs in one thread as well, or its arithmetic would be another one's.
    """
    # Grad and inference mode belong to a thread: the caller's don't reach the pool's.
    inference = torch.is_inference_mode_enabled()

    def call(argument: Argument) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return function(argument)

    threads = torch.get_num_threads()
    if threads == 1:
        return map(call, arguments)
    return _pool(threads).map(call, arguments)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(threads, "kernels", initializer=_use_one_core)
    together = Barrier(threads)
    list(pool.map(lambda _: together.wait(), range(threads)))
    # Setting a thread's number also sets what threads started later begin with.
    torch.set_num_threads(threads)
    return pool


def _use_one_core() -> None:
    # The first question makes torch set up the thread, which would undo an earlier answer.
    torch.get_num_threads()
    torch.set_num_threads(1)


# A forked child has none of its parent's threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
