"""From a row to its id and back, on the disk; damage is told, and never answered by another id."""

import contextlib
import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_cases import (
    as_format,
    change_index,
    passages,
    touched,
    unit_vectors,
    write_index,
    write_values,
)

from index.dense_index import DenseIndex
from index.disk import mapped
from index.manifest.segments import ID_ROWS_FILE, IDS_FILE
from index.store import ids as ids_module
from index.store import shards
from index.store.ids import TWICE, IdTable, check_unique, find_live, hashes_of, write_ids

VECTORS = unit_vectors(300)
IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, min_size=1)


BITS = pytest.mark.parametrize("bits", [64, 2, 0])


@contextlib.contextmanager
def _hashes_of(bits):
    """Hashes so narrow that many ids, or all, share one."""
    whole, mask = ids_module.hashes_of, np.uint64(2**bits - 1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ids_module, "hashes_of", lambda ids: whole(ids) & mask)
        yield


def _written(folder, ids):
    write_ids(folder, [pa.array(ids[:3], pa.string()), pa.array(ids[3:], pa.string())])
    return IdTable.open(folder, len(ids))


@BITS
@settings(max_examples=25)
@given(IDS, st.data())
def test_every_id_leads_to_its_row_and_back(tmp_path_factory, bits, ids, data):
    rows = np.array(data.draw(st.lists(st.integers(0, len(ids) - 1))), np.int64)
    live = np.array(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))))
    sought = [*data.draw(st.permutations(ids)), "\ud800", "".join(ids) + "not there", ids[0]]
    wanted = [ids.index(id_) if id_ in ids and live[ids.index(id_)] else -1 for id_ in sought]
    with _hashes_of(bits):
        table = _written(tmp_path_factory.mktemp("ids"), ids)
        assert (list(table), len(table)) == (ids, len(ids))
        assert table.ids_of(rows) == [ids[row] for row in rows]
        assert find_live([table], [live], sought).tolist() == wanted
        table.check()


@BITS
def test_ids_are_found_through_several_tables(tmp_path, bits):
    live = [np.array([True, False]), np.array([True]), np.array([True, True])]
    with _hashes_of(bits):
        tables = []
        for number, ids in enumerate((["a", "b"], ["c"], ["b", "d"])):
            (tmp_path / str(number)).mkdir()
            tables.append(_written(tmp_path / str(number), ids))
        assert find_live(tables, live, ["d", "b", "c", "x"]).tolist() == [4, 3, 2, -1]
        check_unique(tables, live)
        live[0][1] = True
        for use in (lambda: find_live(tables, live, ["b"]), lambda: check_unique(tables, live)):
            with pytest.raises(ValueError, match=f"{TWICE}: 'b'"):
                use()


def test_an_id_is_led_back_once(tmp_path, monkeypatch):
    """What a search names again and again costs a digest the first time alone."""
    table = _written(tmp_path, [f"p{n}" for n in range(9)])
    hashed = []
    monkeypatch.setattr(
        ids_module, "hashes_of", lambda ids: hashes_of(hashed.append(i) or i for i in ids)
    )
    assert table.ids_of(np.array([3, 5, 3])) == ["p3", "p5", "p3"]
    assert table.ids_of(np.array([5, 8])) == ["p5", "p8"]
    assert hashed == ["p3", "p5", "p3", "p8"]


@BITS
def test_an_id_twice_is_not_written(tmp_path, bits):
    with _hashes_of(bits), pytest.raises(ValueError, match=f"{TWICE}: 'a'"):
        write_ids(tmp_path, [pa.array(["a", "b"]), pa.array(["c", "a"])])
    assert not list(tmp_path.iterdir())


def test_no_ids_at_all(tmp_path):
    column = pa.array([], pa.large_string())
    assert find_live([IdTable(column)], [np.ones(0, bool)], ["a"]).tolist() == [-1]
    assert find_live([], [], ["a"]).tolist() == [-1]
    check_unique([], [])


def test_hashes_are_the_same_on_every_machine():
    """The first eight bytes of BLAKE2b with a digest of that length, lowest first."""
    assert hashes_of(["", "p1"]).tolist() == [0xB4B2797457A0A6E4, 0x91CE9478C96516E8]


@pytest.mark.parametrize("name", [IDS_FILE, ID_ROWS_FILE])
def test_a_flipped_bit_gives_no_wrong_id_and_no_wrong_row(tmp_path, name):
    ids = [f"passage-{row}" for row in range(40)]
    _written(tmp_path, ids)
    content = (tmp_path / name).read_bytes()
    live, told = np.ones(40, bool), 0
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        (tmp_path / name).unlink()  # what is mapped stays what it was
        (tmp_path / name).write_bytes(flipped)
        try:
            table = IdTable.open(tmp_path, 40)
            read = table.ids_of(np.arange(40))
        except ValueError:
            told += 1
            continue
        assert read == ids
        found = find_live([table], [live], ids)
        assert ((found == np.arange(40)) | (found == -1)).all()
    assert told > 40 * 2


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_index_says_which_ids_it_holds(tmp_path, version):
    write_index(tmp_path, VECTORS[:250])
    as_format(tmp_path, version)
    change_index(tmp_path, passages(300)[250:], VECTORS[250:], deleted=["p0001"])
    opened = DenseIndex.open(tmp_path)
    assert all(text.id in opened for text in (passages(300)[0], *passages(300)[2:]))
    assert not any(other in opened for other in ("p0001", "p0300", "", "\ud800", 7, None))
    with pytest.raises(ValueError, match="has no passage 7"):
        opened.passages(["p0002", 7])
    assert touched(opened).ids == [text.id for text in passages(300) if text.id != "p0001"]


def _descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_stays_open_and_few_suffice(tmp_path):
    write_index(tmp_path, VECTORS, shard_size=5)
    open_files = _descriptors()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files + 20, before[1]))
    try:
        opened = touched(DenseIndex.open(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(opened.segments[0].record.shards) == 60
    assert _descriptors() <= open_files


def test_more_shards_than_are_mapped_are_opened_when_touched(tmp_path, monkeypatch):
    for module in (mapped, shards):
        monkeypatch.setattr(module, "MOST_MAPPED", 2)
    write_index(tmp_path, VECTORS, shard_size=50, factory="SQ8")
    opened = DenseIndex.open(tmp_path)
    shutil.copytree(tmp_path / "data-0001", tmp_path / "kept")
    assert touched(opened).passages(["p0299", "p0000"]) == [passages(300)[299], passages(300)[0]]
    assert len(opened.segments[0].vectors._touched) == 2
    change_index(tmp_path, compact=True)
    assert opened.passages(["p0099"]) == [passages(300)[99]]
    with pytest.raises(ValueError, match=r"has changed since it was opened .*; open it again"):
        opened.search(VECTORS[299:], 300)


def test_a_segment_whose_table_is_another_ones_is_told(tmp_path):
    """Every digest is right, but rows lead to other ids than those of the passages."""
    write_index(tmp_path / "index", VECTORS[:10])
    others = [text._replace(id=f"q{text.id}") for text in passages(10)]
    write_index(tmp_path / "other", VECTORS[:10], texts=others)
    values, other = (
        json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("index", "other")
    )
    for name in (IDS_FILE, ID_ROWS_FILE):
        shutil.copy(tmp_path / "other" / "data-0001" / name, tmp_path / "index" / "data-0001")
    values["segments"][0]["ids"] = other["segments"][0]["ids"]
    write_values(tmp_path / "index", values)
    opened = DenseIndex.open(tmp_path / "index", verify=True)
    with pytest.raises(ValueError, match=r"the passages and ids\.arrow have other ids in row 3"):
        opened.passages(["qp0003"])
