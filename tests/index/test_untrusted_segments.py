"""Segments and deletions by a stranger, or damaged: found by `verify`, refused when opened."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from index_cases import change_index, passages, touched, unit_vectors, write_index, write_values

from index.dense_index import DenseIndex
from index.disk.files import sha256_of
from index.manifest.manifest import MANIFEST, Manifest
from index.verify import verify
from index.writing.journal import JOURNAL

VECTORS = unit_vectors(60)
BITS = "data-0001/deleted-00001.bits"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two segments, of 50 passages and 10, and 3 of the first deleted."""
    folder = tmp_path_factory.mktemp("whole") / "index"
    write_index(folder, VECTORS[:50])
    change_index(folder, passages(60)[50:], VECTORS[50:], deleted=["p0001", "p0009", "p0049"])
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "index")


def _change(folder, path, value):
    values = inner = json.loads((folder / MANIFEST).read_text())
    *parents, last = path
    for each in parents:
        inner = inner[each]
    inner[last] = value
    write_values(folder, values)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["segments", 1, "data"], "data-0001", r"segments\[1\]\.data is data-0001, wanted one a"),
        (["segments", 1, "data"], "data-00001", r"segments\[1\]\.data is data-00001, wanted"),
        (["segments", 1, "data"], "../data-0002", r"segments\[1\]\.data is '\.\./data-0002'"),
        (["last_data"], 1, r"segments\[1\]\.data is data-0002, wanted one above 1 and up to 1"),
        (["last_data"], -1, "last_data is -1, wanted 0 to"),
        (["last_data"], 10**9, "last_data is 1000000000, wanted 0 to"),
        (["changes"], -1, "changes is -1"),
        (["passages"], 60, "passages is 60, its segments have 57"),
        (["deleted"], 2, "deleted is 2, its segments have 3"),
        (["segments"], [], "passages is 57, its segments have 0"),
        (["segments", 0, "deleted"], None, "passages is 57, its segments have 60"),
        (["segments", 0, "deleted"], [], r"segments\[0\]\.deleted is \[\], wanted an object"),
        (["segments", 0, "deleted", "number"], 0, r"segments\[0\]\.deleted\.number is 0"),
        (["segments", 0, "deleted", "number"], "../1", r"deleted\.number is '\.\./1', wanted int"),
        (["segments", 0, "deleted", "number"], 10**10, r"deleted\.number is 10000000000"),
        (["segments", 0, "deleted", "rows"], 0, r"deleted\.rows is 0"),
        (["segments", 0, "deleted", "rows"], 50, r"deleted\.rows is 50 of 50"),
        (["segments", 0, "deleted", "rows"], 51, r"deleted\.rows is 51 of 50"),
        (["segments", 0, "deleted", "sha256"], "x", r"deleted\.sha256 is 'x', wanted a SHA-256"),
        (["segments", 0, "deleted", "file"], "x", r"segments\[0\]\.deleted\.file is unknown"),
    ],
)  # fmt: skip
def test_every_field_has_its_type_and_range(folder, path, value, message):
    _change(folder, path, value)
    with pytest.raises(ValueError, match=message) as raised:
        DenseIndex.open(folder)
    assert "manifest.json is damaged" in str(raised.value)


def test_format_1_has_no_field_of_format_2(tmp_path):
    write_index(tmp_path, VECTORS)
    _change(tmp_path, ["format_version"], 1)
    with pytest.raises(ValueError, match="segments is unknown"):
        Manifest.read(tmp_path)


def _is_told(folder, message):
    with pytest.raises(ValueError, match=message) as raised:
        DenseIndex.open(folder)
    assert str(raised.value).startswith(f"the index in {folder} is damaged (data-000")
    assert len(str(raised.value).splitlines()) == 1
    (fault,) = verify(folder).faults
    assert "data-000" in fault
    before = Manifest.read(folder)
    with pytest.raises(ValueError, match=message):  # a writer makes nothing good of it
        change_index(folder, deleted=["p0002"])
    assert Manifest.read(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock", "data-0001", "data-0002", MANIFEST,
    ]  # fmt: skip


@pytest.mark.parametrize("byte", range(7))
def test_a_flipped_bit_among_the_deleted_is_told(folder, byte):
    content = bytearray((folder / BITS).read_bytes())
    assert len(content) == 7
    content[byte] ^= 1 << byte
    (folder / BITS).write_bytes(content)
    _is_told(folder, r"data-0001: deleted-00001\.bits has changed")


def test_a_file_of_deleted_rows_that_is_cut_gone_or_a_link_is_told(folder, tmp_path):
    content = (folder / BITS).read_bytes()
    (folder / BITS).write_bytes(content[:-1])
    _is_told(folder, r"deleted-00001\.bits is not one bit for each of 50 passages")
    (folder / BITS).unlink()
    _is_told(folder, r"deleted-00001\.bits is missing")
    (tmp_path / "elsewhere").write_bytes(content)
    (folder / BITS).symlink_to(tmp_path / "elsewhere")
    _is_told(folder, r"deleted-00001\.bits is a link that leads out of the index")


@pytest.mark.parametrize("bits", [[0, 1], [0, 1, 2, 3], [0, 1, 50], [0, 1, 2, 55]])
def test_deleted_rows_are_as_many_as_the_manifest_says(folder, bits):
    """The digest is right; a bit too few, one too many, one behind the last row."""
    marked = np.zeros(56, bool)
    marked[bits] = True
    (folder / BITS).write_bytes(np.packbits(marked, bitorder="little").tobytes())
    _change(folder, ["segments", 0, "deleted", "sha256"], sha256_of(folder / BITS))
    _is_told(folder, r"deleted-00001\.bits does not mark 3 passages")


@pytest.mark.parametrize("name", ["vectors.faiss", "vectors-00000.arrow", "passages-00000.parquet"])
def test_a_damaged_file_of_a_later_segment_is_told(folder, name):
    path = folder / "data-0002" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert verify(folder).faults == [f"data-0002: {name} has changed"]
    path.write_bytes(content[:20])
    with pytest.raises(ValueError, match=rf"is damaged \(data-0002: {name} can't be read: "):
        touched(DenseIndex.open(folder))


def test_an_id_that_is_live_in_two_segments_is_told(folder):
    """As a writer of another kind might leave it."""
    shutil.copytree(folder / "data-0001", folder / "data-0003")
    values = json.loads((folder / MANIFEST).read_text())
    values["segments"].append(values["segments"][0] | {"data": "data-0003"})
    values |= {"passages": 104, "deleted": 6, "truncated": 2, "last_data": 3}
    write_values(folder, values)
    opened = DenseIndex.open(folder)
    for use in (lambda: opened.search(VECTORS[:1], 3), lambda: opened.ids):
        with pytest.raises(ValueError, match=r"is damaged \(an id stands in it twice: 'p00\d\d'\)"):
            use()
    assert "an id stands in it twice" in verify(folder).faults[0]


@pytest.mark.parametrize("content", ["{", "[]", "my notes", '{"data": "../up", "replaced": {}}'])
def test_a_journal_of_another_program_is_left_alone(folder, content):
    (folder / JOURNAL).write_text(content)
    assert len(DenseIndex.open(folder)) == 57
    with pytest.raises(ValueError, match=r"change\.json is in the way: it is damaged or another"):
        change_index(folder, deleted=["p0002"])
    assert (folder / JOURNAL).read_text() == content


def test_a_journal_leads_to_nothing_but_our_files(folder, tmp_path):
    """A stranger's names the user's folder as that of an unfinished segment."""
    journal = {"data": "data-0007", "replaced": asdict(Manifest.read(folder))}
    mine = tmp_path / "mine"
    mine.mkdir()
    for place in (mine, folder / "data-0007"):
        place.mkdir(exist_ok=True)
        (place / "notes.txt").write_text("mine")
    (mine / "vectors-00000.arrow").write_text("mine")
    (folder / JOURNAL).write_text(json.dumps(journal))
    change_index(folder, deleted=["p0002"])
    assert (folder / "data-0007" / "notes.txt").read_text() == "mine"
    (folder / "data-0008").symlink_to(mine)
    journal = {"data": "data-0008", "replaced": asdict(Manifest.read(folder))}
    (folder / JOURNAL).write_text(json.dumps(journal))
    change_index(folder, deleted=["p0003"])
    assert (mine / "vectors-00000.arrow").read_text() == "mine"
    assert verify(folder) == ([], 1.0)
