"""Metadata beside the passages: written, read, searched by, changed, damaged."""

import json
import shutil
from datetime import UTC, date, datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_cases import (
    PLAN,
    change_index,
    passages,
    unit_vectors,
    write_index,
    write_values,
)

from index.dense_index import DenseIndex
from index.disk.files import only_writer, sha256_of
from index.manifest.columns import ColumnRecord
from index.manifest.manifest import MANIFEST, Manifest
from index.store.metadata import IndexMetadata
from index.verify import verify
from index.writing.writer import IndexWriter

VECTORS = unit_vectors(250)
NAME = "metadata-00001.arrow"


def _year(row):
    return None if row % 7 == 0 else 2000 + row % 20


def _texts(rows):
    """Of every 7th passage the year is missing."""
    return [
        text._replace(metadata={"year": _year(row), "lang": "en" if row % 3 else "de"})
        for row, text in enumerate(passages(rows))
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two segments, of 150 passages in two shards and 100, and 3 deleted."""
    folder = tmp_path_factory.mktemp("kept") / "index"
    write_index(folder, VECTORS[:150], texts=_texts(150))
    change_index(folder, _texts(250)[150:], VECTORS[150:], deleted=["p0001", "p0009", "p0049"])
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "index")


def test_passages_come_back_with_their_metadata(whole):
    opened = DenseIndex.open(whole)
    ids = ["p0249", "p0000", "p0149", "p0021"]
    assert opened.passages(ids) == [_texts(250)[int(id_[1:])] for id_ in ids]
    assert opened.manifest.columns == (
        ColumnRecord("year", "integer"),
        ColumnRecord("lang", "string"),
    )
    assert verify(whole) == ([], 1.0)


def test_an_index_without_metadata_has_no_file_more(tmp_path):
    manifest = write_index(tmp_path, VECTORS)
    assert manifest.columns == ()
    assert not list(tmp_path.rglob("metadata-*"))
    with pytest.raises(ValueError, match="has no metadata to search by; build it with --keep"):
        DenseIndex.open(tmp_path).search(VECTORS[:1], 3, "year = 3")
    assert DenseIndex.open(tmp_path).passages(["p0001"])[0].metadata == {}


def test_every_type_survives_and_can_be_asked_for(tmp_path):
    rows = [
        {"s": "ü\0", "i": 2**63 - 1, "f": 0.1, "b": True, "d": date(1, 1, 1),
         "t": datetime(9999, 1, 1, 1, 1, 1, 1), "u": datetime(2020, 1, 1, tzinfo=UTC), "n": None},
        dict.fromkeys("sifbdtun"),
        {"s": "", "i": -(2**63), "f": -0.0, "b": False, "d": date(9999, 12, 31),
         "t": datetime(1, 1, 1), "u": datetime(1969, 1, 1, tzinfo=UTC), "n": None},
    ]  # fmt: skip
    texts = [text._replace(metadata=row) for text, row in zip(passages(3), rows, strict=True)]
    write_index(tmp_path, VECTORS[:3], texts=texts, shard_size=2)
    opened = DenseIndex.open(tmp_path)
    assert [each.metadata for each in opened.passages(opened.ids)] == rows
    for condition, row in (
        ("s = ''", 2), ("i = 9223372036854775807", 0), ("f = 0.1", 0), ("not b", 2), ("b", 0),
        ("d < '0001-01-02'", 0), ("t > '9998-01-01'", 0), ("u < '1970-01-01'", 2),
    ):  # fmt: skip
        (hits,) = opened.search(VECTORS[:1], 3, condition)
        assert [hit.id for hit in hits] == [f"p{row:04d}"], condition


def test_types_that_shards_see_apart_are_one_column(tmp_path):
    """A shard of nulls, one of whole numbers, one of fractions: each file holds what it saw."""
    values = [None, None, 1, 2, 2.5, None, 4, 5]
    texts = [p._replace(metadata={"x": x}) for p, x in zip(passages(8), values, strict=True)]
    manifest = write_index(tmp_path, VECTORS[:6], texts=texts[:6], shard_size=2)
    assert manifest.columns == (ColumnRecord("x", "float"),)
    change_index(tmp_path, texts[6:], VECTORS[6:8])
    for _ in range(2):
        opened = DenseIndex.open(tmp_path)
        found = [each.metadata["x"] for each in opened.passages(opened.ids)]
        assert (found, [type(x) for x in found if x]) == (values, [float] * 5)
        (hits,) = opened.search(VECTORS[:1], 9, "x >= 2 and x < 5")
        assert sorted(hit.id for hit in hits) == ["p0003", "p0004", "p0006"]
        change_index(tmp_path, compact=True, shard_size=3)


CONDITIONS = ("year >= 2010", "lang = 'de'", "year is null or lang = 'de'", "year in (2003, 2004)")


def _holds(condition, passage):
    year, lang = passage.metadata["year"], passage.metadata["lang"]
    return [
        year is not None and year >= 2010,
        lang == "de",
        year is None or lang == "de",
        year in (2003, 2004),
    ][CONDITIONS.index(condition)]


@settings(max_examples=10)
@given(
    data=st.data(),
    cuts=st.sets(st.integers(1, 59), max_size=2),
    deleted=st.sets(st.integers(0, 59), max_size=40),
    condition=st.sampled_from(CONDITIONS),
    k=st.integers(1, 70),
)
def test_what_a_condition_finds_is_what_an_index_of_those_passages_finds(
    tmp_path_factory, data, cuts, deleted, condition, k
):
    """Bit for bit, ties among them, over any segments and deletions."""
    folder = tmp_path_factory.mktemp("where")
    texts = _texts(60)
    vectors = VECTORS[data.draw(st.lists(st.integers(0, 20), min_size=60, max_size=60))]
    edges = [0, *sorted(cuts), 60]
    write_index(folder / "all", vectors[: edges[1]], texts=texts[: edges[1]], shard_size=25)
    for start, end in pairwise(edges[1:]):
        change_index(folder / "all", texts[start:end], vectors[start:end], shard_size=25)
    if deleted:
        change_index(folder / "all", deleted=[texts[row].id for row in deleted])
    rows = [row for row, text in enumerate(texts) if row not in deleted and _holds(condition, text)]
    found = DenseIndex.open(folder / "all").search(VECTORS[100:103], k, condition)
    if not rows:
        assert found == [[], [], []]
        return
    write_index(folder / "fresh", vectors[rows], texts=[texts[row] for row in rows])
    assert found == DenseIndex.open(folder / "fresh").search(VECTORS[100:103], k)


@pytest.mark.parametrize("factory", ["HNSW32,Flat", "SQ8"])
@pytest.mark.parametrize("condition", [*CONDITIONS, "year < 0"])
def test_other_kinds_give_k_hits_where_k_are_allowed(tmp_path, factory, condition):
    write_index(tmp_path, VECTORS, texts=_texts(250), factory=factory)
    opened = DenseIndex.open(tmp_path)
    allowed = {
        text.id for text in _texts(250) if condition in CONDITIONS and _holds(condition, text)
    }
    for hits in opened.search(VECTORS[:5], 40, condition):
        assert {hit.id for hit in hits} <= allowed
        assert len(hits) == min(40, len(allowed))


def test_masks_are_of_live_rows_and_the_last_few_are_remembered(whole, monkeypatch):
    opened = DenseIndex.open(whole)
    masks = opened.where("lang = 'de' or year = 2001")
    assert [len(mask) for mask in masks] == [150, 100]
    assert np.flatnonzero(masks[0])[:3].tolist() == [0, 3, 6]  # 1 and 9 are deleted
    asked = []
    monkeypatch.setattr("index.store.metadata._mask", lambda *_: asked.append(1))
    for same in (
        "lang='de'   or year=2001",
        (pc.field("lang") == "de") | (pc.field("year") == 2001),
    ):
        for mine, first in zip(opened.where(same), masks, strict=True):
            np.testing.assert_array_equal(mine, first)
    assert not asked


def test_an_expression_does_for_a_text(whole):
    opened = DenseIndex.open(whole)
    wanted = opened.search(VECTORS[:2], 300, "year >= 2010 and not lang = 'de'")
    expression = (pc.field("year") >= 2010) & (pc.field("lang") != "de")
    assert opened.search(VECTORS[:2], 300, expression) == wanted
    for bad, kind, message in (
        (pc.field("yaer") > 3, ValueError, "No match for FieldRef.Name.yaer.*; of year: int64"),
        (pc.field("year") == "a", ValueError, "no kernel matching input types"),
        (pc.field("year"), ValueError, "is int64, wanted true or false"),
        (3, TypeError, "where is a int, wanted a text or an Expression"),
    ):
        with pytest.raises(kind, match=message) as raised:
            opened.where(bad)
        assert len(str(raised.value).splitlines()) == 1


def test_a_change_keeps_columns_and_types(folder):
    before = Manifest.read(folder)
    other = passages(300)[299]
    for metadata, message in (
        ({}, "has the columns none of metadata, wanted year, lang"),
        ({"lang": "a", "year": 1}, "has the columns lang, year of metadata, wanted year, lang"),
        ({"year": "x", "lang": "en"}, "metadata-00000.arrow: 'year' is string, wanted integer"),
        ({"year": 1.5, "lang": "en"}, "metadata-00000.arrow: 'year' is float, wanted integer"),
    ):
        with pytest.raises(ValueError, match=message):
            change_index(folder, [other._replace(metadata=metadata)], VECTORS[:1])
    assert Manifest.read(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock", "data-0001", "data-0002", MANIFEST,
    ]  # fmt: skip
    change_index(folder, [other._replace(metadata={"year": None, "lang": None})], VECTORS[:1])
    change_index(folder, deleted=DenseIndex.open(folder).ids)
    assert Manifest.read(folder).columns == before.columns  # though no passage is left


def test_compact_copies_metadata(folder):
    before = DenseIndex.open(folder)
    wanted = before.search(VECTORS[:3], 300, "year > 2004")
    change_index(folder, compact=True)
    after = DenseIndex.open(folder)
    assert len(after.segments) == 1
    assert after.search(VECTORS[:3], 300, "year > 2004") == wanted
    assert after.passages(after.ids) == before.passages(before.ids)
    # What was opened before can still be asked, though its files have gone.
    assert before.search(VECTORS[:3], 300, "year > 2005 or year is null")


def test_a_resumed_build_compares_metadata(tmp_path):
    texts = _texts(200)
    with only_writer(tmp_path):
        writer = IndexWriter(tmp_path, PLAN, resume=False, overwrite=False)
        writer.add_shard(texts[:100], VECTORS[:100], truncated=0)
        writer = IndexWriter(tmp_path, PLAN, resume=True, overwrite=False)
        assert writer.already_written(0, texts[:100])
        other = [texts[0]._replace(metadata={"year": 1999, "lang": "de"}), *texts[1:100]]
        with pytest.raises(ValueError, match="the corpus has changed"):
            writer.already_written(0, other)
        IndexWriter(tmp_path, PLAN, resume=False, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "building").iterdir()) == ["plan.json"]


def _is_told(folder, message):
    with pytest.raises(ValueError, match=message) as raised:
        DenseIndex.open(folder).where("year > 3")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("how", ["missing", "cut", "link", "empty"])
def test_a_damaged_file_is_told(folder, tmp_path, how):
    path = folder / "data-0001" / NAME
    content = path.read_bytes()
    path.unlink()
    if how == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif how != "missing":
        path.write_bytes(content[: {"cut": 100, "empty": 0}[how]])
    _is_told(folder, rf"data-0001: {NAME} can't be read: ")
    assert f"data-0001: {NAME}" in verify(folder).faults[0]


def test_every_flipped_bit_is_told_by_a_search_too(folder):
    path = folder / "data-0001" / NAME
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        assert verify(folder).faults == [f"data-0001: {NAME} has changed"]
        with pytest.raises(ValueError, match=f"data-0001: {NAME} "):
            DenseIndex.open(folder).where("lang = 'en' and year > 2003")
        with pytest.raises(ValueError, match=f"data-0001: {NAME} has changed"):
            change_index(folder, compact=True)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"year": [1] * 50, "text": ["a"] * 50}),
        pa.table({"year": ["1"] * 50, "lang": ["a"] * 50}),
        pa.table({"year": [1.5] * 50, "lang": ["a"] * 50}),
        pa.table({"year": [1] * 50, "lang": [["a"]] * 50}),
        pa.table({"year": [1] * 49, "lang": ["a"] * 49}),
        pa.table({"year": [1] * 50}),
    ],
)
def test_a_file_of_another_form_is_told(folder, table):
    path = folder / "data-0001" / NAME
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    values = json.loads((folder / MANIFEST).read_text())
    values["segments"][0]["shards"][1]["metadata_sha256"] = sha256_of(path)
    write_values(folder, values)
    _is_told(folder, rf"data-0001: {NAME}")
    assert NAME in verify(folder).faults[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(columns=[]), "columns has 0 names, and a shard has metadata"),
        (
            lambda v: v["segments"][0]["shards"][0].update(metadata_sha256=None),
            "columns has 2 names, and a shard lacks metadata",
        ),
        (lambda v: v["segments"][0]["shards"][0].update(metadata_sha256="x"), "wanted a SHA-256"),
        (lambda v: v["columns"][0].update(type="int"), r"columns\[0\]\.type is 'int', wanted one"),
        (lambda v: v["columns"][0].update(name="lang"), "wanted names, each once"),
        (lambda v: v["columns"][0].update(name=3), r"columns\[0\]\.name is 3, wanted str"),
    ],
)
def test_a_manifest_by_a_stranger_is_checked(folder, change, message):
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    write_values(folder, values)
    with pytest.raises(ValueError, match=rf"manifest\.json is damaged .*{message}"):
        DenseIndex.open(folder)


def test_columns_that_the_manifest_names_otherwise_are_told(folder):
    values = json.loads((folder / MANIFEST).read_text())
    values["columns"][0]["type"] = "string"
    write_values(folder, values)
    with pytest.raises(ValueError, match=r"metadata-00000\.arrow holds .*'year', 'integer'"):
        IndexMetadata(folder, Manifest.read(folder)).check()
