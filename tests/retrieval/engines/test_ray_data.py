"""The build as a Ray Data job, on a cluster of one machine that all tests here share."""

import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from index.manifest.manifest import EncoderRecord
from index.records import Passage
from index.store.shards import VectorTable, write_shard
from index.writing.writer import IndexWriter
from retrieval.build import build_index
from retrieval.engines.choice import start_engine
from retrieval.engines.protocol import NumberedShard
from retrieval.engines.ray_data import RayEngine

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="session")
def cluster():
    """Ray on this machine, with two cores."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'blockseek[ray]'")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    # What these tests define travels to the actors, who can't import it.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()


def test_a_job_builds_the_same_bytes(
    cluster, tmp_path, made_corpus, settings, local_files, files_of
):
    folder = tmp_path / "index"
    build_index(str(made_corpus), folder, settings, device="cpu", engine="ray", workers=2)
    assert files_of(folder) == local_files
    again = build_index(str(made_corpus), folder, settings, resume=True, engine="ray", workers=1)
    assert again.passages == 60
    assert files_of(folder) == local_files


def test_chunks_are_the_same_bytes(cluster, tmp_path, made_corpus, settings, files_of, one_thread):
    cut, found = replace(settings, chunk=12, overlap=3), []
    for engine, workers in (("local", 1), ("ray", 2)):
        options = {"device": "cpu", "engine": engine, "workers": workers}
        build_index(str(made_corpus), tmp_path / engine, cut, **options)
        found.append(files_of(tmp_path / engine))
    assert found[0] == found[1]


def test_a_killed_job_is_resumed_to_the_same_bytes(
    cluster, tmp_path, made_corpus, settings, local_files, files_of, monkeypatch
):
    accept = IndexWriter.accept

    class Killed(BaseException):
        pass

    def accept_two(writer, shard):
        accept(writer, shard)
        if len(writer.shards) == 2:
            raise Killed

    folder = tmp_path / "index"
    with monkeypatch.context() as patched:
        patched.setattr(IndexWriter, "accept", accept_two)
        with pytest.raises(Killed):
            build_index(str(made_corpus), folder, settings, engine="ray", workers=2)
    assert len(list((folder / "building").glob("shard-*.json"))) == 2
    assert len(list((folder / "building").glob("staging-*"))) == 1
    build_index(str(made_corpus), folder, settings, device="cpu", resume=True, engine="ray")
    assert files_of(folder) == local_files


def test_a_broken_corpus_says_so_itself(cluster, tmp_path, settings):
    corpus = tmp_path / "c.tsv"
    corpus.write_text("".join(f"p{n}\ttext\n" for n in range(40)) + "p3\tagain\n")
    with pytest.raises(ValueError, match=r"c\.tsv.*41.*p3"):
        build_index(str(corpus), tmp_path / "index", settings, engine="ray", workers=1)
    assert (tmp_path / "index" / "building" / "shard-00001.json").exists()


RECORD = EncoderRecord("fake", "f" * 32, 1, 0, "mean", "", "")


class _Encoder(NamedTuple):
    """Stands in for a model; the first passage it sees anywhere may kill its process."""

    death: Path | None = None
    record: EncoderRecord = RECORD

    def encode_passages(self, passages):
        if self.death and not self.death.exists():
            self.death.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        values = [[float(passage.text)] for passage in passages]
        return np.array(values, np.float32), 0


class _Load(NamedTuple):
    death: Path | None = None

    def __call__(self, device=None, threads=None):
        return _Encoder(self.death)


def _shards(count, read):
    for number in range(count):
        read.append(number)
        yield NumberedShard(number, [Passage(f"p{number}", "", str(number))])


def test_shards_come_in_order_and_no_more_are_read_than_the_actors_are_to_hold(cluster, tmp_path):
    read = []
    with start_engine(_Load(), name="ray", workers=2) as engine:
        records = engine.records(_shards(30, read), partial(write_shard, tmp_path))
        for number, record in enumerate(records):
            assert record.vectors == f"vectors-{number:05d}.arrow"
            assert len(read) - number <= 8  # four an actor
            (vectors,) = VectorTable(tmp_path, [record], 1).parts
            assert vectors.tolist() == [[number]]
        assert len(read) == 30


def test_what_an_actor_raises_is_raised_here(cluster):
    with start_engine(_Load(), name="ray", workers=1) as engine:
        records = engine.records(_shards(9, []), partial(write_shard, Path("/no-such/folder")))
        with pytest.raises(ValueError, match=r"no-such.*must lie in a folder that all machines"):
            list(records)


def test_the_shard_of_an_actor_that_dies_is_done_by_another(cluster, tmp_path):
    (tmp_path / "shards").mkdir()
    with start_engine(_Load(tmp_path / "death"), name="ray", workers=1) as engine:
        records = list(engine.records(_shards(5, []), partial(write_shard, tmp_path / "shards")))
    assert (tmp_path / "death").exists()
    found = VectorTable(tmp_path / "shards", records, 1)
    assert found[np.arange(5)].tolist() == [[0], [1], [2], [3], [4]]


def test_more_workers_than_the_cluster_has(cluster):
    load = _Load()
    with (
        pytest.raises(ValueError, match="workers is 9, the Ray cluster has 2 CPUs"),
        start_engine(load, name="ray", workers=9),
    ):
        pass
    with (
        pytest.raises(ValueError, match="workers is 1, the Ray cluster has 0 GPUs"),
        start_engine(load, name="ray", device="cuda"),
    ):
        pass
    with pytest.raises(ValueError, match="Ray gives each worker a device of its own"):
        RayEngine(load, ["cuda:0", "cuda:1"], None)
