import json

import numpy as np
import pytest
from index_cases import unit_vectors, write_index

from index.dense_index import FAISS_FILE
from index.manifest import MANIFEST
from index.verify import verify


@pytest.fixture
def index_and_data(tmp_path):
    folder = tmp_path / "index"
    manifest = write_index(folder, unit_vectors(600), factory="IVF8,PQ8x4fs")
    return folder, folder / manifest.data, manifest


def test_a_whole_index_has_no_faults(index_and_data):
    folder, _, manifest = index_and_data
    found = verify(folder)
    assert found.faults == []
    assert found.recall_at_10 == manifest.recall_at_10
    assert manifest.recall_queries == 100


@pytest.mark.parametrize("name", [FAISS_FILE, "passages-00002.parquet", "vectors-00000.arrow"])
def test_one_flipped_bit_is_found(index_and_data, name):
    folder, data, _ = index_and_data
    content = bytearray((data / name).read_bytes())
    content[len(content) // 2] ^= 1
    (data / name).write_bytes(content)
    found = verify(folder)
    assert found.faults == [f"{name} has changed"]
    assert np.isnan(found.recall_at_10)


def test_a_missing_file_is_found(index_and_data):
    folder, data, _ = index_and_data
    (data / FAISS_FILE).unlink()
    assert verify(folder).faults == [f"{FAISS_FILE} is missing"]


def test_a_wrong_count_is_found(index_and_data):
    folder, _, _ = index_and_data
    values = json.loads((folder / MANIFEST).read_text())
    values["passages"] = 601
    (folder / MANIFEST).write_text(json.dumps(values))
    assert verify(folder).faults == [
        "600 vectors, the manifest says 601",
        "600 FAISS rows, the manifest says 601",
        "600 passages, the manifest says 601",
    ]
