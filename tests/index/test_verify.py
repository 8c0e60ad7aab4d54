import json

import numpy as np
import pytest
from index_cases import change_index, unit_vectors, write_index, write_values

from index.dense_index import DenseIndex
from index.manifest.manifest import MANIFEST
from index.manifest.segments import FAISS_FILE, ID_ROWS_FILE, IDS_FILE
from index.verify import verify


@pytest.fixture
def index_and_data(tmp_path):
    folder = tmp_path / "index"
    manifest = write_index(folder, unit_vectors(600), factory="IVF8,PQ8x4fs")
    return folder, folder / manifest.segments[0].data, manifest


def test_a_whole_index_has_no_faults(index_and_data):
    folder, _, manifest = index_and_data
    found = verify(folder)
    assert found.faults == []
    assert found.recall_at_10 == manifest.recall_at_10
    assert manifest.segments[0].recall_queries == 100


@pytest.mark.parametrize(
    "name", [FAISS_FILE, "passages-00002.parquet", "vectors-00000.arrow", IDS_FILE, ID_ROWS_FILE]
)
def test_one_flipped_bit_is_found(index_and_data, name):
    folder, data, _ = index_and_data
    content = bytearray((data / name).read_bytes())
    content[len(content) // 2] ^= 1
    (data / name).write_bytes(content)
    found = verify(folder)
    assert found.faults == [f"data-0001: {name} has changed"]
    assert np.isnan(found.recall_at_10)


def test_a_missing_file_is_found(index_and_data):
    folder, data, _ = index_and_data
    (data / FAISS_FILE).unlink()
    assert verify(folder).faults == [f"data-0001: {FAISS_FILE} is missing"]


def test_a_wrong_count_is_found(index_and_data):
    folder, _, _ = index_and_data
    values = json.loads((folder / MANIFEST).read_text())
    values["passages"] = 601
    write_values(folder, values)
    with pytest.raises(ValueError, match="passages is 601, its segments have 600"):
        verify(folder)
    values["segments"][0]["passages"] = 601
    write_values(folder, values)
    with pytest.raises(ValueError, match=r"segments\[0\]\.passages is 601, its shards have 600"):
        verify(folder)
    values["segments"][0]["shards"][-1]["rows"] += 1
    write_values(folder, values)
    (fault,) = verify(folder).faults
    assert fault.startswith(f"data-0001: {FAISS_FILE} holds 600 vectors of 32 dimensions")
    assert "wanted 601 of 32" in fault


@pytest.mark.parametrize(
    "name", [FAISS_FILE, "passages-00002.parquet", "vectors-00000.arrow", IDS_FILE, ID_ROWS_FILE]
)
def test_opening_compares_digests_when_it_is_asked_to(index_and_data, name):
    folder, data, _ = index_and_data
    content = bytearray((data / name).read_bytes())
    content[len(content) // 2] ^= 1
    assert len(DenseIndex.open(folder, verify=True)) == 600
    (data / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"is damaged \(data-0001: {name} has changed\)"):
        DenseIndex.open(folder, verify=True)
    if name in (IDS_FILE, ID_ROWS_FILE):  # a change looks ids up, and would add one twice
        with pytest.raises(ValueError, match=rf"is damaged \(data-0001: {name} has changed\)"):
            change_index(folder, deleted=["p0001"])
