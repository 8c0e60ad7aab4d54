"""Real processes: killed by SIGKILL at random moments, beside a reader, on a full disk."""

import contextlib
import errno
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from index_cases import change_index, write_index
from kill_cases import contents
from writer_process import CHANGES, SECOND, TEXTS, VECTORS, write

from index.dense_index import DenseIndex
from index.disk.files import only_writer
from index.manifest.manifest import MANIFEST, Manifest
from index.manifest.plan import PLAN
from index.verify import verify
from index.writing.change import IndexChange
from index.writing.folder import unfinished_in
from index.writing.journal import JOURNAL

pytestmark = pytest.mark.slow

ROOT, HERE = Path(__file__).resolve().parents[2], Path(__file__).resolve().parent
KILLS = 12  # in the midst of each of six commands
TRIES = 400


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """Two segments, of which the first has lost some passages."""
    folder = tmp_path_factory.mktemp("before") / "index"
    write(folder, "build")
    change_index(folder, TEXTS[SECOND], VECTORS[SECOND], deleted=[text.id for text in TEXTS[:90:7]])
    return folder


def _python(script, *arguments):
    return subprocess.Popen(
        [sys.executable, HERE / script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"},
    )


def _at_work(folder):
    return (folder / JOURNAL).exists() or any(folder.glob(f"*/{PLAN}"))


@pytest.fixture(scope="module")
def writers():
    """Starts a writer for `FOLDER CHANGE`, kills it so many seconds after its first file.

    Gives how it ended.
    """
    with _python("writer_process.py") as server:

        def killed(folder, name, seconds):
            server.stdin.write(f"{folder}\t{name}\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            while not _at_work(folder) and not select.select([server.stdout], [], [], 0)[0]:
                pass
            threading.Event().wait(seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            return int(server.stdout.readline())

        yield killed
        server.stdin.close()


def _kills(writers, place, name, before):
    """Folders in which a writer was killed in the midst of its work; gives `KILLS` of them.

    The moments are random; how late they may come is learned from those that came too late.
    """
    latest, moments, found = 0.2, random.Random(name), 0
    for number in range(TRIES):
        folder = place / str(number)
        if before:
            shutil.copytree(before, folder)
        ended = writers(folder, name, moments.uniform(0, latest))
        assert ended in (0, -signal.SIGKILL)
        if not ended:
            latest *= 0.8
        elif _at_work(folder):
            found += 1
            yield folder
        shutil.rmtree(folder)
        if found == KILLS:
            return
    pytest.fail(f"{found} of {TRIES} kills met the writer at work")


def _same(folder, wanted):
    opened, whole = DenseIndex.open(folder), DenseIndex.open(wanted)
    assert list(opened.ids) == list(whole.ids)
    assert opened.search(VECTORS[:5], 1000) == whole.search(VECTORS[:5], 1000)
    assert opened.passages(opened.ids) == whole.passages(whole.ids)
    assert verify(folder) == ([], 1.0)


@pytest.mark.parametrize("name", CHANGES)
def test_a_killed_change_leaves_the_old_index_or_the_new_one(before, tmp_path, writers, name):
    after = shutil.copytree(before, tmp_path / "after")
    write(after, name)
    for folder in _kills(writers, tmp_path, name, before):
        committed = Manifest.read(folder) == Manifest.read(after)
        _same(folder, after if committed else before)
        with only_writer(folder), IndexChange(folder):
            pass
        assert contents(folder) == contents(after if committed else before)
        if not committed:
            write(folder, name)
            assert contents(folder) == contents(after)


def test_a_killed_build_goes_on(tmp_path, writers):
    whole = tmp_path / "whole"
    write(whole, "build")
    for folder in _kills(writers, tmp_path, "build", None):
        if not (folder / MANIFEST).exists():
            with pytest.raises(ValueError, match=r"is unfinished.*--resume"):
                DenseIndex.open(folder)
        write_index(folder, VECTORS[:600], shard_size=30, resume=True)
        _same(folder, whole)
        assert contents(folder) == contents(whole)


def test_a_killed_build_of_another_index_leaves_the_old_one(before, tmp_path, writers):
    after = shutil.copytree(before, tmp_path / "after")
    write(after, "build again")
    refused = 0
    for folder in _kills(writers, tmp_path, "build again", before):
        committed = Manifest.read(folder) == Manifest.read(after)
        _same(folder, after if committed else before)
        if not committed and unfinished_in(folder, Manifest.read(folder)):
            refused += 1
            with pytest.raises(ValueError, match="holds an unfinished build"):
                write(folder, "delete")
        write(folder, "build again")
        _same(folder, after)
    assert refused


def test_a_reader_sees_whole_states_during_every_commit(tmp_path):
    folder = tmp_path / "index"
    write(folder, "build")
    states, seen = set(), set()

    def state():
        index = DenseIndex.open(folder)
        (hits,) = index.search(VECTORS[:1], k=2000)
        ids = tuple(hit.id for hit in hits)
        return len(index), ids, tuple(passage.text for passage in index.passages(ids))

    states.add(state())
    with _python("reader_process.py", str(folder)) as reader:
        for number in range(60):
            some = slice(number * 10, number * 10 + 40)
            match number % 4:
                case 0:
                    change_index(folder, deleted=[text.id for text in TEXTS[some]])
                case 1:
                    change_index(
                        folder,
                        TEXTS[some.start - 10 : some.stop],
                        VECTORS[some.start - 10 : some.stop],
                    )
                case 2:
                    changed = [text._replace(text=f"text {number}") for text in TEXTS[some]]
                    change_index(folder, changed, VECTORS[some])
                case 3:
                    change_index(folder, compact=True, shard_size=70)
            states.add(state())
            found, ids, texts = json.loads(reader.stdout.readline())
            seen.add((found, tuple(ids), tuple(texts)))
        reader.kill()
    assert seen <= states
    assert len(seen) > 10


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def _full(folder, name):
    try:
        write(folder, name)
    except OSError as error:
        return error
    return None


@pytest.mark.parametrize("name", [*CHANGES, "build again"])
def test_a_full_disk_is_told_and_leaves_the_old_index(before, small_disk, tmp_path, name):
    after = shutil.copytree(before, tmp_path / "after")
    write(after, name)
    failed = 0
    for left in range(0, 800, 16):
        folder = shutil.copytree(before, small_disk / "index")
        ballast = small_disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        os.truncate(ballast, max(0, ballast.stat().st_size - left * 1024))
        error = _full(folder, name)
        if error:
            failed += 1
            assert error.errno == errno.ENOSPC
            assert str(folder) in error.filename
            opened, whole = DenseIndex.open(folder), DenseIndex.open(before)
            assert opened.search(VECTORS[:2], 9) == whole.search(VECTORS[:2], 9)
            ballast.unlink()
            write(folder, name)
        _same(folder, after)
        shutil.rmtree(folder)
        ballast.unlink(missing_ok=True)
    assert 2 < failed < 50


def test_a_disk_that_only_reads_is_searched_and_told_of(before, small_disk):
    folder = shutil.copytree(before, small_disk / "index")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    _same(folder, before)
    for name in [*CHANGES, "build again"]:
        with pytest.raises(OSError, match=r"Read-only file system") as raised:
            write(folder, name)
        assert str(folder) in raised.value.filename
    _same(folder, before)
