"""An index by a stranger: what its manifest says is checked, and its files are held to it."""

import json
import shutil

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_cases import (
    DIMENSION,
    as_format,
    segment_of,
    touched,
    unit_vectors,
    write_index,
    write_values,
)

from index.dense_index import DenseIndex
from index.disk.files import sha256_of
from index.manifest.manifest import MANIFEST, Manifest
from index.manifest.segments import FAISS_FILE, IDS_FILE
from index.store.ids import TWICE
from index.verify import verify

ROWS = 300
VECTORS = unit_vectors(ROWS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "index"
    write_index(folder, VECTORS)
    return folder


@pytest.fixture(params=[1, 2, 3])
def folder(whole, tmp_path, request):
    shutil.copytree(whole, tmp_path / "index")
    as_format(tmp_path / "index", request.param)
    return tmp_path / "index"


def _change(folder, change):
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    write_values(folder, values)


def _set(path, value):
    def change(values):
        *parents, last = path
        if path[0] not in values:
            values = segment_of(values)
        for name in parents:
            values = values[name]
        values[last] = value

    return change


@pytest.mark.parametrize("value", ["../../outside", "/etc", "..", "", "data-0001/..", "building"])
def test_data_is_a_plain_name(folder, value):
    _change(folder, _set(["data"], value))
    with pytest.raises(ValueError, match=r"data is .*, wanted data- and a number"):
        verify(folder)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["encoder", "dimension"], 10**9, r"encoder\.dimension is 1000000000, wanted 1 to 65536"),
        (["encoder", "dimension"], 0, "dimension is 0"),
        (["encoder", "dimension"], True, r"encoder\.dimension is True, wanted int"),
        (["encoder", "max_length"], -1, "max_length is -1"),
        (["encoder"], [], r"encoder is \[\], wanted an object"),
        (["shards"], [], "passages is 300, its shards have 0"),
        (["shards"], {}, r"shards is \{\}, wanted tuple"),
        (["metric"], "l2", "metric is 'l2', wanted 'inner_product'"),
        (["shards", 1, "rows"], -100, r"shards\[1\]\.rows is -100"),
        (["shards", 1, "rows"], 99, "passages is 300, its shards have 299"),
        (["shards", 1, "rows"], 100.0, r"shards\[1\]\.rows is 100\.0, wanted int"),
        (["shards", 1, "truncated"], 101, r"shards\[1\]\.truncated is 101, wanted 0 to 100"),
        (["shards", 1, "vectors"], "vectors-00000.arrow", r"shards\[1\] has the files of another"),
        (["shards", 1, "passages"], "../passages-00001.parquet", "has the files of another"),
        (["shards", 1, "vectors_sha256"], "0" * 63, "vectors_sha256 is '0.*wanted a SHA-256"),
        (["faiss_sha256"], "A" * 64, "faiss_sha256 is 'A.*wanted a SHA-256"),
        (["passages"], 301, r"passages is 301, its (shards|segments) have 300"),
        (["truncated"], 4, "truncated is 4, its segments have 3"),
        (["skipped"], -1, "skipped is -1"),
        (["skipped"], None, "skipped is None, wanted int"),
        (["recall_at_10"], 1.5, "recall_at_10 is 1.5, wanted 0 to 1"),
        (["recall_at_10"], float("nan"), "recall_at_10 is nan"),
        (["recall_queries"], 301, "recall_queries is 301"),
        (["recall_asked"], "", "recall_asked is ''|recall_asked is unknown"),
        (["corpus"], 3, "corpus is 3, wanted str"),
        (["created_by"], {"faiss": 1}, r"created_by\.faiss is 1, wanted str"),
        (["settings"], [], r"settings is \[\], wanted dict"),
    ],
)
def test_every_field_has_its_type_and_range(folder, path, value, message):
    _change(folder, _set(path, value))
    with pytest.raises(ValueError, match=message) as raised:
        Manifest.read(folder)
    assert "manifest.json is damaged" in str(raised.value)


def test_a_shard_out_of_order_or_twice_is_refused(folder):
    _change(folder, lambda values: segment_of(values)["shards"].reverse())
    with pytest.raises(ValueError, match=r"shards\[0\] has the files of another shard"):
        verify(folder)
    shards = segment_of(json.loads((folder / MANIFEST).read_text()))["shards"]
    _change(folder, _set(["shards"], shards[:1] * 3))
    with pytest.raises(ValueError, match=r"shards\[0\] has the files of another shard"):
        verify(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5_000, '{"format_version": 1e999}'])
def test_json_that_breaks_readers_is_one_sentence(folder, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        Manifest.read(folder)


def _replace(folder, name, write):
    """Put another file in the place of one, its digest with it: only what it holds is wrong."""
    path = folder / "data-0001" / name
    path.unlink()
    write(path)

    def change(values):
        if name == FAISS_FILE:
            segment_of(values)["faiss_sha256"] = sha256_of(path)
        for shard in segment_of(values)["shards"]:
            for kind in ("vectors", "passages"):
                if shard[kind] == name:
                    shard[f"{kind}_sha256"] = sha256_of(path)
            if shard["passages"] == name and "rows_per_group" in shard:
                shard["rows_per_group"] = 256

    _change(folder, change)


def _is_told(folder, message):
    with pytest.raises(ValueError, match=message) as raised:
        touched(DenseIndex.open(folder))
    assert str(raised.value).startswith(f"the index in {folder} is damaged (")
    assert len(str(raised.value).splitlines()) == 1
    (fault,) = verify(folder).faults
    assert fault in str(raised.value)


def _arrow(values, **columns):
    def write(path):
        table = pa.table({"vector": values, **columns})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    return write


def _vectors(rows, dimension=DIMENSION, kind=np.float32):
    flat = unit_vectors(rows, dimension).astype(kind).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), dimension)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_arrow(_vectors(100, 31)), r"holds vector: fixed_size_list<item: float>\[31\], wanted"),
        (_arrow(_vectors(100, kind=np.float64)), r"holds vector: fixed_size_list<item: double>"),
        (_arrow(_vectors(99)), "holds 99 vectors, its manifest says 100"),
        (_arrow(pa.array([None] * 100, pa.list_(pa.float32(), DIMENSION))), "holds 0 vectors"),
        (_arrow(pa.array(["x"] * 100)), "holds vector: string"),
        (_arrow(_vectors(100), more=pa.array(range(100))), "holds vector.*more: int64"),
        (lambda path: path.write_bytes(b"ARROW1\0\0" + b"\xff" * 64 + b"ARROW1"), "can't be read"),
        (lambda path: path.write_bytes(b""), "can't be read"),
    ],
)
def test_vectors_are_what_the_manifest_promises(folder, write, message):
    _replace(folder, "vectors-00001.arrow", write)
    _is_told(folder, rf"vectors-00001\.arrow {message}")


def _parquet(rows=100, group=256, **columns):
    def write(path):
        names = [f"x{row}" for row in range(rows)]
        table = {"id": names, "title": names, "text": names} | columns
        pq.write_table(pa.table(table), path, row_group_size=group)

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_parquet(99), "holds 99 passages in 1 groups, wanted 100 in groups of 256"),
        (_parquet(group=7), "holds 100 passages in 15 groups"),
        (_parquet(id=list(range(100))), "holds id: int64.*wanted id, title and text"),
        (_parquet(more=["x"] * 100), "holds id: .*more: string, wanted id, title and text"),
        (lambda path: path.write_bytes(b"PAR1" + b"\xff" * 64 + b"PAR1"), "can't be read"),
    ],
)
def test_passages_are_what_the_manifest_promises(folder, write, message):
    _replace(folder, "passages-00001.parquet", write)
    _is_told(folder, rf"passages-00001\.parquet {message}")


@pytest.mark.parametrize(
    ("columns", "message", "with_table"),
    [
        ({"id": ["same"] * 100}, TWICE, "have other ids"),
        ({"id": [None] * 100}, "passages-00001.parquet lacks ids", "without id, title or text"),
        (
            {"id": [f"p{row:04d}" for row in range(100, 200)], "text": [None] * 100},
            "has a passage without id, title or text",
            "has a passage without id, title or text",
        ),
    ],
)
def test_passages_that_show_their_faults_only_when_read(folder, columns, message, with_table):
    """Where the segment has a table of ids, that is what a search reads; `verify` compares both."""
    has_table = (folder / "data-0001" / IDS_FILE).exists()
    columns = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    _replace(folder, "passages-00001.parquet", _parquet(**columns))
    assert (with_table if has_table and message == TWICE else message) in verify(folder).faults[0]
    opened = DenseIndex.open(folder)
    with pytest.raises(ValueError, match=with_table if has_table else message):
        opened.passages([hit.id for hit in opened.search(VECTORS[150:151], ROWS)[0]])


def test_a_group_of_passages_that_is_damaged_inside_is_told_when_it_is_read(folder):
    path = folder / "data-0001" / "passages-00001.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0).column(2)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    opened = DenseIndex.open(folder)
    with pytest.raises(ValueError, match=r"passages-00001\.parquet can't be read: "):
        opened.passages(["p0150"])


def _faiss(factory="Flat", rows=ROWS, dimension=DIMENSION, metric=faiss.METRIC_INNER_PRODUCT):
    def write(path):
        built = faiss.index_factory(dimension, factory, metric)
        built.train(unit_vectors(ROWS, dimension))
        built.add(unit_vectors(rows, dimension))
        faiss.write_index(built, str(path))

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_faiss(rows=299), "holds 299 vectors of 32 dimensions"),
        (_faiss(dimension=31), "holds 300 vectors of 31 dimensions"),
        (_faiss(metric=faiss.METRIC_L2), "holds .* under FAISS's metric 1, wanted .* 0"),
        (lambda path: path.write_bytes(b"IxFI" + b"\xff" * 64), "can't be read: "),
        (lambda path: path.write_bytes(b""), "can't be read: "),
    ],
)
def test_the_faiss_index_is_what_the_manifest_promises(folder, write, message):
    _replace(folder, FAISS_FILE, write)
    _is_told(folder, rf"vectors\.faiss {message}")
    assert "Error in" not in str(verify(folder).faults)


def test_a_faiss_index_that_names_other_rows_is_told(folder):
    def write(path):
        built = faiss.index_factory(DIMENSION, "IDMap,Flat", faiss.METRIC_INNER_PRODUCT)
        built.add_with_ids(VECTORS, np.arange(ROWS) + ROWS)
        faiss.write_index(built, str(path))

    _replace(folder, FAISS_FILE, write)
    with pytest.raises(ValueError, match=r"the FAISS index is damaged: it has a row \d+"):
        DenseIndex.open(folder).search(VECTORS[:1], 5)
    assert "it has a row" in verify(folder).faults[0]


def test_lists_that_lie_in_another_file_are_not_looked_for_elsewhere(folder, tmp_path):
    """FAISS follows the path that such an index holds, and maps the file for writing."""
    quantizer = faiss.IndexFlatIP(DIMENSION)
    built = faiss.IndexIVFFlat(quantizer, DIMENSION, 4, faiss.METRIC_INNER_PRODUCT)
    built.train(VECTORS)
    lists = faiss.OnDiskInvertedLists(4, built.code_size, str(tmp_path / "elsewhere"))
    built.replace_invlists(lists)
    built.add(VECTORS)
    _replace(folder, FAISS_FILE, lambda path: faiss.write_index(built, str(path)))
    assert faiss.read_index(str(folder / "data-0001" / FAISS_FILE)).ntotal == ROWS
    _is_told(folder, r"vectors\.faiss can't be read: ")


@pytest.mark.skipif(
    not hasattr(faiss, "set_deserialization_vector_byte_limit"),
    reason="this FAISS has no such limit",
)
def test_a_length_beyond_the_file_fills_no_memory(folder):
    """FAISS would fill the terabyte that one wrong byte asks for before it reads on."""
    path = folder / "data-0001" / FAISS_FILE
    content = path.read_bytes()
    length = (ROWS * DIMENSION).to_bytes(8, "little")
    assert content.count(length) == 1

    def write(path):
        path.write_bytes(content.replace(length, (2**38 - 1).to_bytes(8, "little")))

    before = faiss.get_deserialization_vector_byte_limit()
    _replace(folder, FAISS_FILE, write)
    _is_told(folder, r"vectors\.faiss can't be read: .*(limit|read error)")
    assert faiss.get_deserialization_vector_byte_limit() == before


def test_vectors_that_are_none_are_found_by_verify(folder):
    for value in (np.nan, 2.0):
        flat = np.full(100 * DIMENSION, value, np.float32)
        write = _arrow(pa.FixedSizeListArray.from_arrays(pa.array(flat), DIMENSION))
        _replace(folder, "vectors-00001.arrow", write)
        assert verify(folder).faults == [
            "data-0001: vectors-00001.arrow holds vectors longer than one, or NaN"
        ]


@pytest.mark.parametrize("name", ["data-0001", "data-0001/vectors-00002.arrow"])
def test_links_that_lead_out_are_refused(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="is a link that leads out of the index"):
        DenseIndex.open(folder)
    assert "is a link that leads out of the index" in verify(folder).faults[0]


def test_an_index_reached_by_a_link_is_opened(whole, tmp_path):
    (tmp_path / "link").symlink_to(whole)
    assert len(DenseIndex.open(tmp_path / "link")) == ROWS
