import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from index.dense_index import DenseIndex
from index.manifest.plan import BUILDING
from index.verify import verify
from retrieval.build import IndexSettings, build_index
from retrieval.corpora.records import Skipped

ROOT = Path(__file__).resolve().parent.parent.parent


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_build_says_what_it_holds(made_index, made_corpus, tiny_encoder):
    manifest = DenseIndex.open(made_index).manifest
    assert (manifest.passages, manifest.truncated, manifest.skipped) == (60, 4, 0)
    assert [shard.rows for shard in manifest.segments[0].shards] == [16, 16, 16, 12]
    assert (manifest.corpus, manifest.encoder.name) == (str(made_corpus), str(tiny_encoder))
    assert manifest.settings["shard_size"] == 16
    assert {"blockseek", "faiss", "torch"} <= set(manifest.created_by)
    assert manifest.recall_at_10 == 1
    assert verify(made_index).faults == []


def test_skipped_records_are_counted(tmp_path, tiny_encoder):
    corpus = tmp_path / "c.tsv"
    corpus.write_text("a\ttext\na\tagain\nb\n")
    skipped = Skipped()
    settings = IndexSettings(encoder=str(tiny_encoder), skip_bad=True)
    manifest = build_index(str(corpus), tmp_path / "index", settings, skipped=skipped)
    assert (manifest.passages, manifest.skipped, skipped.count) == (1, 2, 2)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_corpus_is_refused_before_a_model_loads(tmp_path, content):
    (tmp_path / "c.tsv").write_text(content)
    with pytest.raises(ValueError, match=r"the corpus .*c\.tsv' has no passages"):
        build_index(str(tmp_path / "c.tsv"), tmp_path / "index", IndexSettings("no/such-model"))
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_that_is_not_ours_is_refused_before_anything_is_read(tmp_path, options):
    (tmp_path / "data-old-backup").mkdir()
    with pytest.raises(ValueError, match="data-old-backup is in the way"):
        build_index("no-such.tsv", tmp_path, IndexSettings("no/such-model"), **options)
    assert [path.name for path in tmp_path.iterdir()] == ["data-old-backup"]


def test_resuming_a_whole_index_says_so_and_encodes_nothing(
    made_index, made_corpus, tiny_encoder, capsys, monkeypatch
):
    monkeypatch.setattr("retrieval.encoder.Encoder.encode_passages", None)
    before = _files(made_index)
    settings = IndexSettings(encoder=str(tiny_encoder), shard_size=16)
    manifest = build_index(str(made_corpus), made_index, settings, resume=True, device="cpu")
    assert manifest == DenseIndex.open(made_index).manifest
    assert f"{made_index} holds this index already, whole" in capsys.readouterr().err
    assert _files(made_index) == before
    with pytest.raises(ValueError, match="had another settings; repeat its options with --resume"):
        build_index(str(made_corpus), made_index, IndexSettings(str(tiny_encoder)), resume=True)


def test_a_factory_that_faiss_does_not_know(tmp_path, made_corpus, tiny_encoder):
    settings = IndexSettings(encoder=str(tiny_encoder), faiss="What")
    with pytest.raises(ValueError, match="FAISS can't build 'What' over 60 vectors of 32 dim"):
        build_index(str(made_corpus), tmp_path / "index", settings)


@pytest.mark.parametrize("name", ["batch_size", "shard_size", "max_length"])
def test_settings_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0, wanted at least 1"):
        IndexSettings(**{name: 0})


_STOPPED_AFTER_TWO_SHARDS = """
import os, signal, sys
from configs.command import run_command
from index.writing.writer import IndexWriter
from retrieval.index import make_parser
accept = IndexWriter.accept
def accept_and_stop(writer, shard):
    accept(writer, shard)
    if len(writer.shards) == 2:
        os.kill(os.getpid(), signal.SIGSTOP)
IndexWriter.accept = accept_and_stop
run_command(make_parser(), sys.argv[1:])
"""


def test_a_killed_build_resumes_to_the_same_bytes_and_the_old_index_stays(
    tmp_path, tiny_encoder, run_module, one_thread
):
    corpus, config = tmp_path / "c.tsv", tmp_path / "index.yaml"
    corpus.write_text("".join(f"p{n}\ttext {n} of many\n" for n in range(200)))
    config.write_text(f"encoder: {tiny_encoder}\nshard_size: 20\nbatch_size: 4\n")
    command = ["build", str(corpus), "--config", str(config), "--device", "cpu", "--out"]

    settings = IndexSettings(encoder=str(tiny_encoder), shard_size=20)
    old = tmp_path / "old.tsv"
    old.write_text("old\tthe old text\n")
    build_index(str(old), tmp_path / "killed", settings, device="cpu")
    build_index(str(old), tmp_path / "whole", settings, device="cpu")

    # Held in the middle, while another one tries.
    program = [sys.executable, "-c", _STOPPED_AFTER_TWO_SHARDS]
    first = subprocess.Popen(
        [*program, *command, tmp_path / "killed", "--overwrite"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1])
        with pytest.raises(
            ValueError, match=f"another process is writing in .*process {first.pid} on "
        ):
            build_index(str(corpus), tmp_path / "killed", settings, overwrite=True)
    finally:
        first.kill()
    assert first.wait() == -signal.SIGKILL

    opened = DenseIndex.open(tmp_path / "killed")
    assert opened.ids == ["old"]
    assert verify(tmp_path / "killed").faults == []

    with pytest.raises(ValueError, match="had another settings; repeat its options"):
        build_index(str(corpus), tmp_path / "killed", settings, resume=True)

    assert len(list((tmp_path / "killed" / BUILDING).glob("shard-*.json"))) == 2
    for folder, option in (("killed", "--resume"), ("whole", "--overwrite")):
        found = run_module("retrieval.index", *command, tmp_path / folder, option)
        assert found.returncode == 0, found.stderr
    assert _files(tmp_path / "killed") == _files(tmp_path / "whole")
    assert len(DenseIndex.open(tmp_path / "killed")) == 200
