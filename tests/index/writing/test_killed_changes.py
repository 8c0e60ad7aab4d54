"""A change that is killed at any of its steps: the old index or the new one, and nothing else."""

import itertools
import shutil

import pytest
from index_cases import change_index, dated, passages, unit_vectors, write_index
from kill_cases import Killed, contents, count_steps

from index.dense_index import DenseIndex
from index.disk.files import only_writer
from index.manifest.manifest import MANIFEST
from index.verify import verify
from index.writing.change import IndexChange

TEXTS, VECTORS = dated(passages(12)), unit_vectors(12)
NEW = [text._replace(text="another") for text in TEXTS[4:]]
CHANGES = {
    "add": {"added": TEXTS[8:], "vectors": VECTORS[8:], "shard_size": 2},
    "update": {"added": NEW, "vectors": VECTORS[4:], "shard_size": 5},
    "delete": {"deleted": ["p0002", "p0007"]},
    "delete a segment": {"deleted": ["p0000", "p0006", "p0007"]},
    "compact": {"compact": True, "shard_size": 4},
}


@pytest.fixture(scope="module", params=["off", pytest.param("plain", marks=pytest.mark.slow)])
def before(request, tmp_path_factory):
    """Two segments, of which one has lost a passage."""
    return _index(tmp_path_factory.mktemp("before") / "index", lexical=request.param)


def _index(folder, lexical):
    write_index(folder, VECTORS[:6], texts=TEXTS[:6], shard_size=4, lexical=lexical)
    change_index(folder, TEXTS[6:8], VECTORS[6:8], deleted=["p0001"])
    return folder


def _arrive(folder):
    """The next writer comes, and has nothing to do."""
    with only_writer(folder), IndexChange(folder):
        pass


def _dies(folder, monkeypatch, step, do, error=Killed):
    """The steps that `do(folder)` took before it died at its step `step`; None if it did not."""
    with monkeypatch.context() as patched:
        done = count_steps(patched, step, error)
        try:
            do(folder)
        except error:
            return done
    return None


def _killed_changes(before, place, monkeypatch, name, every=1, error=Killed):
    """A folder for `every` so many of the steps of a change, killed there; what it is to hold."""
    after = shutil.copytree(before, place / "after")
    change_index(after, **CHANGES[name])
    assert contents(after) != contents(before)
    for step in itertools.count(0, every):
        folder = shutil.copytree(before, place / str(step))
        done = _dies(
            folder, monkeypatch, step, lambda folder: change_index(folder, **CHANGES[name]), error
        )
        if done is None:
            assert step > 15
            return
        yield folder, after if f"replace {MANIFEST}.unfinished" in done else before


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("name", CHANGES)
def test_a_kill_at_any_step_leaves_the_old_index_or_the_new_one(
    before, tmp_path, monkeypatch, name, every
):
    for folder, wanted in _killed_changes(before, tmp_path, monkeypatch, name, every):
        opened, whole = DenseIndex.open(folder), DenseIndex.open(wanted)
        assert opened.ids == whole.ids
        assert opened.search(VECTORS, 20) == whole.search(VECTORS, 20)
        assert opened.passages(opened.ids) == whole.passages(opened.ids)
        assert verify(folder) == ([], 1.0)
        _arrive(folder)
        assert contents(folder) == contents(wanted)


def test_a_kill_leaves_both_legs_of_one_state(tmp_path, monkeypatch):
    before = _index(tmp_path / "before", lexical="plain")
    for folder, wanted in _killed_changes(before, tmp_path, monkeypatch, "update", every=5):
        found, expected = (
            DenseIndex.open(each).search_words(["another text 7"], 20) for each in (folder, wanted)
        )
        assert found == expected
        assert len(found[0]) in (7, 11)
        assert verify(folder) == ([], 1.0)
        _arrive(folder)
        assert contents(folder) == contents(wanted)


@pytest.mark.parametrize("name", ["update", pytest.param("compact", marks=pytest.mark.slow)])
def test_an_interrupt_at_any_step_is_tidied_up_at_once(before, tmp_path, monkeypatch, name):
    """Also one that comes when the manifest has its name, and nobody here knows it yet."""
    for folder, wanted in _killed_changes(
        before, tmp_path, monkeypatch, name, error=KeyboardInterrupt
    ):
        assert DenseIndex.open(folder).ids == DenseIndex.open(wanted).ids
        _arrive(folder)
        assert contents(folder) == contents(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_the_next_writer_may_be_killed_too(before, tmp_path, monkeypatch, name):
    for folder, wanted in _killed_changes(before, tmp_path, monkeypatch, name):
        for step in itertools.count():
            again = shutil.copytree(folder, tmp_path / "again")
            ended = _dies(again, monkeypatch, step, _arrive) is None
            assert DenseIndex.open(again).ids == DenseIndex.open(wanted).ids
            _arrive(again)
            assert contents(again) == contents(wanted)
            shutil.rmtree(again)
            if ended:
                break


@pytest.mark.parametrize("name", ["update", "compact"])
def test_the_next_writer_may_build_the_index_anew(before, tmp_path, monkeypatch, name):
    for folder, _ in _killed_changes(before, tmp_path, monkeypatch, name, every=5):
        write_index(folder, VECTORS[:3], overwrite=True)
        (data,) = folder.glob("data-*")
        assert {path.name for path in folder.iterdir()} == {".lock", MANIFEST, data.name}
        assert len(list(data.iterdir())) == 5
