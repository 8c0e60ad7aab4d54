"""The thread and its queue: batches, refusals, what one request got wrong."""

import asyncio
import threading

import pytest

from retrieval.serving.batching import BusyError, QueueLimits, Worker


class Held:
    """A job that starts when it is let, and remembers its batches."""

    def __init__(self):
        self.batches = []
        self.started = threading.Event()
        self.go = threading.Event()

    def job(self, requests):
        self.started.set()
        assert self.go.wait(30)
        self.batches.append(list(requests))
        return [10 * request for request in requests]


def run(worker, coroutine):
    async def main():
        return await coroutine(asyncio.get_running_loop())

    try:
        return asyncio.run(main())
    finally:
        worker.stop()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_what_waits_for_the_same_job_is_one_batch_in_order():
    held, batched = Held(), []
    worker = Worker("w", QueueLimits(), batched=batched.append)

    async def ask(loop):
        tasks = [loop.create_task(worker.ask(held.job, 0))]
        await until(held.started.is_set)
        tasks += [loop.create_task(worker.ask(held.job, n)) for n in (1, 2, 3)]
        tasks.append(loop.create_task(worker.ask(lambda requests: ["other"], 0)))
        tasks.append(loop.create_task(worker.ask(held.job, 4)))
        await until(lambda: len(worker) == 5)
        held.go.set()
        return await asyncio.gather(*tasks)

    assert run(worker, ask) == [0, 10, 20, 30, "other", 40]
    assert held.batches == [[0], [1, 2, 3], [4]]  # nobody overtakes the one between
    assert batched == [1, 3, 1, 1]


def test_a_batch_is_bounded_but_a_large_request_has_its_turn():
    held = Held()
    worker = Worker("w", QueueLimits(batch_size=10))

    async def ask(loop):
        tasks = [loop.create_task(worker.ask(held.job, 0))]
        await until(held.started.is_set)
        for request, size in ((1, 4), (2, 6), (3, 50), (4, 1)):
            tasks.append(loop.create_task(worker.ask(held.job, request, size)))
        await until(lambda: len(worker) == 4)
        held.go.set()
        return await asyncio.gather(*tasks)

    assert run(worker, ask) == [0, 10, 20, 30, 40]
    assert held.batches == [[0], [1, 2], [3], [4]]


def test_past_the_limit_is_refused_and_told_when_to_come_again():
    held = Held()
    worker = Worker("w", QueueLimits(waiting=2))

    async def ask(loop):
        first = loop.create_task(worker.ask(held.job, 0))
        await until(held.started.is_set)
        rest = [loop.create_task(worker.ask(held.job, n)) for n in (1, 2)]
        await until(lambda: len(worker) == 2)
        with pytest.raises(BusyError, match="2 requests wait and the limit is 2") as refused:
            await worker.ask(held.job, 3)
        assert 1 <= refused.value.seconds <= 60
        held.go.set()
        return await asyncio.gather(first, *rest)

    assert run(worker, ask) == [0, 10, 20]


def test_a_request_whose_deadline_passed_is_not_computed():
    held = Held()
    worker = Worker("w", QueueLimits(seconds=-1))

    async def ask(loop):
        held.go.set()
        with pytest.raises(BusyError, match="waited longer than -1 s"):
            await worker.ask(held.job, 1)

    run(worker, ask)
    assert held.batches == []


def test_a_client_that_left_is_not_computed_and_frees_its_place():
    held = Held()
    worker = Worker("w", QueueLimits(waiting=1))

    async def ask(loop):
        first = loop.create_task(worker.ask(held.job, 0))
        await until(held.started.is_set)
        gone = loop.create_task(worker.ask(held.job, 1))
        await until(lambda: len(worker) == 1)
        gone.cancel()
        await until(lambda: len(worker) == 0)
        last = loop.create_task(worker.ask(held.job, 2))
        await until(lambda: len(worker) == 1)
        held.go.set()
        return await asyncio.gather(first, last)

    assert run(worker, ask) == [0, 20]
    assert held.batches == [[0], [2]]


def test_what_one_got_wrong_is_not_the_others_loss():
    held = Held()

    def job(requests):
        found = held.job(requests)
        if 2 in requests:
            raise ValueError("2 is wrong")
        return [KeyError(10) if each == 10 else each for each in found]

    worker = Worker("w", QueueLimits())

    async def ask(loop):
        tasks = [loop.create_task(worker.ask(job, 0))]
        await until(held.started.is_set)
        tasks += [loop.create_task(worker.ask(job, n)) for n in (1, 2, 3)]
        await until(lambda: len(worker) == 3)
        held.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    zero, one, two, three = run(worker, ask)
    assert (zero, three) == (0, 30)
    assert isinstance(one, KeyError)  # a result that is an exception is that request's own
    assert isinstance(two, ValueError)
    assert held.batches == [[0], [1, 2, 3], [1], [2], [3]]


def test_a_stopped_worker_answers_what_waits_and_takes_no_more():
    worker = Worker("w", QueueLimits())

    async def ask(loop):
        answer = await worker.ask(lambda requests: requests, "a")
        worker.stop()
        with pytest.raises(BusyError):
            await worker.ask(lambda requests: requests, "b")
        return answer

    assert run(worker, ask) == "a"
