"""Several processes that encode; they are spawned once for all that can share them."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from index.manifest.manifest import EncoderRecord
from index.manifest.segments import ShardRecord
from index.records import Passage
from retrieval.build import build_index
from retrieval.engines.choice import start_engine
from retrieval.engines.processes import ProcessEngine
from retrieval.engines.protocol import NumberedShard

RECORD = EncoderRecord("fake", "f" * 32, 1, 0, "mean", "", "")


class _Encoder(NamedTuple):
    """Stands in for a model, which takes seconds to load; passages may say what it should do."""

    record: EncoderRecord = RECORD

    def encode_passages(self, passages):
        for passage in passages:
            if passage.title == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if passage.title == "fail":
                raise ValueError(f"cannot encode {passage.id}")
            if passage.title == "wait":
                signal.pause()
        values = [[float(passage.text)] for passage in passages]
        return np.array(values, np.float32), len(passages)


class _Load(NamedTuple):
    fault: str = ""

    def __call__(self, device=None, threads=None):
        if self.fault:
            raise ValueError(self.fault)
        return _Encoder()


def _shards(count: int, titles: dict[int, str] | None = None) -> Iterator[NumberedShard]:
    for number in range(count):
        title = (titles or {}).get(number, "")
        yield NumberedShard(number, [Passage(f"p{number}", title, str(number))])


def _write(number, passages, vectors, truncated):
    assert vectors.tolist() == [[float(passage.text)] for passage in passages]
    return ShardRecord(f"v{number}", passages[0].id, len(passages), truncated, "0" * 64, "0" * 64)


@pytest.fixture(scope="module")
def engine():
    with ProcessEngine(_Load(), [None], 2) as started:
        yield started


def test_shards_come_back_in_order(engine):
    assert engine.record == RECORD
    found = [record.passages for record in engine.records(_shards(25), _write)]
    assert found == [f"p{number}" for number in range(25)]
    assert list(engine.records(iter([]), _write)) == []


def test_no_more_shards_are_read_than_the_workers_are_to_hold(engine):
    read = []

    def noted():
        for shard in _shards(40):
            read.append(shard.number)
            yield shard

    for place, _ in enumerate(engine.records(noted(), _write)):
        assert len(read) - place <= 8  # four a worker
    assert read == list(range(40))


def test_a_corpus_that_breaks_says_so_itself(engine):
    def broken():
        yield from _shards(3)
        raise ValueError("c.tsv line 4 is broken")

    with pytest.raises(ValueError, match=r"c\.tsv line 4 is broken"):
        list(engine.records(broken(), _write))
    # What was under way stays with those workers: this engine is not used again.
    engine.__exit__()


def test_what_a_process_raises_is_raised_here():
    with (
        pytest.raises(ValueError, match="no model of that name"),
        ProcessEngine(_Load("no model of that name"), [None], 1),
    ):
        pass
    with (
        ProcessEngine(_Load(), [None], 1) as engine,
        pytest.raises(ValueError, match="cannot encode p2"),
    ):
        list(engine.records(_shards(5, {2: "fail"}), _write))


def test_a_process_that_dies_is_told_and_the_shards_before_it_are_kept():
    kept = []
    with (
        ProcessEngine(_Load(), [None], 2) as engine,
        pytest.raises(
            RuntimeError,
            match=r"encoding process \d of 2 was ended by SIGKILL; the shards before .* --resume",
        ),
    ):
        kept.extend(r.passages for r in engine.records(_shards(60, {50: "die"}), _write))
    assert kept == [f"p{number}" for number in range(len(kept))]
    assert len(kept) >= 50 - 8
    assert not any(worker._process.is_alive() for worker in engine._workers)


def test_an_interrupt_ends_the_processes():
    def interrupted():
        yield from _shards(1, {0: "wait"})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ProcessEngine(_Load(), [None], 1) as engine:
        list(engine.records(interrupted(), _write))
    assert not engine._workers[0]._process.is_alive()


def test_a_process_that_loses_its_parent_ends_in_the_middle_of_a_shard():
    engine = ProcessEngine(_Load(), [None], 1)
    (worker,) = engine.__enter__()._workers
    worker.send(next(_shards(1, {0: "wait"})))
    worker.pipe.close()  # as the parent's end does when it is killed
    worker._process.join(60)
    assert worker._process.exitcode == 0
    engine.__exit__()


def test_two_processes_build_the_same_bytes(
    tmp_path, made_corpus, settings, local_files, files_of, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # whatever the machine has: one for each
    folder = tmp_path / "index"
    build_index(str(made_corpus), folder, settings, device="cpu", workers=2)
    assert files_of(folder) == local_files


@pytest.mark.slow
def test_two_processes_build_the_same_bytes_of_chunks(
    tmp_path, made_corpus, settings, files_of, monkeypatch, one_thread
):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    cut, found = replace(settings, chunk=12, overlap=3), []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        build_index(str(made_corpus), folder, cut, device="cpu", workers=workers)
        found.append(files_of(folder))
    assert found[0] == found[1]


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ValueError, match=r"Ray is not installed: pip install 'blockseek\[ray\]'"):
        start_engine(_Load(), name="ray")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0, wanted at least 1"),
        ({"device": "cpu,,cpu"}, "device is 'cpu,,cpu', wanted names with one comma between two"),
        ({"name": "dask"}, "engine is 'dask', wanted one of local, ray"),
    ],
)
def test_what_is_no_engine_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        start_engine(_Load(), **options)
