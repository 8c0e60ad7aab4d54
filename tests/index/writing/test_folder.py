"""Whose a folder is: nothing of the user's is deleted, and no build starts among it."""

from dataclasses import replace

import pytest
from index_cases import PLAN, passages, unit_vectors, write_index

from index.dense_index import DenseIndex
from index.disk.files import LOCK, only_writer
from index.manifest.plan import BUILDING
from index.manifest.plan import PLAN as PLAN_FILE
from index.writing.folder import claim
from index.writing.writer import IndexWriter

VECTORS = unit_vectors(4)


def _put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the user's {name}")


def _kept(folder, *names):
    return all((folder / name).read_text() == f"the user's {name}" for name in names)


def _unfinished(folder, shards=1, plan=PLAN):
    folder.mkdir(exist_ok=True)
    writer = IndexWriter(folder, plan, resume=False, overwrite=True)
    for number in range(shards):
        writer.add_shard(passages(4)[number:], VECTORS[number:], truncated=0)
    return writer


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
@pytest.mark.parametrize(
    "name",
    ["notes.txt", "building/notes.txt", "building", "data-0001/notes.txt", "data-old-backup/x"],
)
def test_a_folder_of_the_users_is_refused_and_left_as_it_is(tmp_path, name, options):
    _put(tmp_path, name)
    with pytest.raises(ValueError, match=r"is in the way: no build of an index wrote it.*--out"):
        claim(tmp_path, **{"resume": False, "overwrite": False} | options)
    assert _kept(tmp_path, name)


def test_a_manifest_of_another_program_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(ValueError, match=r"another program's .*build the index again in another"):
        claim(tmp_path, resume=False, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file; name a folder as --out"):
        claim(tmp_path / "file", resume=False, overwrite=True)


def test_a_new_an_empty_and_a_locked_folder_are_taken(tmp_path):
    for folder in (tmp_path / "new", tmp_path):
        assert claim(folder, resume=False, overwrite=False) == (None, None)
    (tmp_path / LOCK).touch()
    (tmp_path / BUILDING).mkdir()
    assert claim(tmp_path, resume=False, overwrite=False) == (None, None)


def test_what_lies_beside_an_index_stays_when_it_is_replaced(tmp_path):
    """A fitted filter, say, and whatever else the user puts there."""
    mine = ["notes.txt", "data-0002/notes.txt", "data-old-backup/notes.txt", "filter/filter.json"]
    write_index(tmp_path, VECTORS)
    _put(tmp_path, *mine, "data-0001/notes.txt")
    assert write_index(tmp_path, VECTORS[:3], overwrite=True).segments[0].data == "data-0003"
    assert _kept(tmp_path, *mine, "data-0001/notes.txt")
    assert [path.name for path in (tmp_path / "data-0001").iterdir()] == ["notes.txt"]
    assert len(DenseIndex.open(tmp_path)) == 3


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_users_file_inside_an_unfinished_build_stops_it(tmp_path, overwrite):
    _unfinished(tmp_path)
    _put(tmp_path, "building/notes.txt")
    with pytest.raises(ValueError, match=r"building/notes\.txt is in the way"):
        claim(tmp_path, resume=not overwrite, overwrite=overwrite)
    assert _kept(tmp_path, "building/notes.txt")


def test_a_build_begun_again_deletes_the_unfinished_one(tmp_path):
    _unfinished(tmp_path, shards=3)
    # As a kill leaves them: the files of the shard that was at work, and half a file.
    for name in ("vectors-00003.arrow", "passages-00003.parquet.unfinished"):
        (tmp_path / BUILDING / name).write_text("half")
    _unfinished(tmp_path, shards=0, plan=replace(PLAN, corpus="another"))
    assert [path.name for path in (tmp_path / BUILDING).iterdir()] == [PLAN_FILE]


@pytest.mark.parametrize("name", ["data-0001", "building"])
def test_links_are_not_followed_when_something_is_deleted(tmp_path, name):
    folder, other = tmp_path / "index", tmp_path / "other"
    write_index(other, VECTORS)
    _unfinished(other)
    before = sorted(other.rglob("*"))
    if name == "building":
        folder.mkdir()
    else:
        write_index(folder, VECTORS)
        (folder / name).rename(folder / "moved")
    (folder / name).symlink_to(other / name)
    if name == "building":
        with pytest.raises(ValueError, match="building is in the way"):
            claim(folder, resume=True, overwrite=False)
    else:
        write_index(folder, VECTORS, overwrite=True)
    assert sorted(other.rglob("*")) == before


def test_links_are_not_followed_when_something_is_written(tmp_path):
    _put(tmp_path, "precious")
    folder = tmp_path / "index"
    folder.mkdir()
    (folder / "manifest.json.unfinished").symlink_to(tmp_path / "precious")
    write_index(folder, VECTORS)
    (folder / LOCK).unlink()
    (folder / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"\.lock"):
        write_index(folder, VECTORS, overwrite=True)
    assert _kept(tmp_path, "precious")


def test_the_lock_says_who_holds_it_and_no_more(tmp_path):
    """What goes wrong while it is held is told as what it is."""
    with pytest.raises(BlockingIOError, match="of the build"), only_writer(tmp_path):
        raise BlockingIOError("of the build")
