"""Recall asks what lies near the index's vectors and is none of them."""

import json

import numpy as np
import pytest
from index_cases import as_format, unit_vectors, write_index, write_values

from index.dense.recall import exact_search, mixed_queries, recall_at_10
from index.manifest.manifest import MANIFEST, Manifest
from index.manifest.segments import OWN_VECTORS
from index.verify import verify


class Whole:
    """Vectors in memory."""

    def __init__(self, vectors):
        self.parts = [vectors]

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, rows):
        return self.parts[0][rows]


VECTORS = Whole(unit_vectors(500))


def test_queries_are_unit_vectors_none_of_them_a_row_and_the_same_each_time():
    queries = mixed_queries(VECTORS, 100)
    assert queries.shape == (100, 32)
    assert queries.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, rtol=0, atol=1e-6)
    rows = np.linspace(0, 499, 100).astype(int)
    own = (queries * VECTORS[rows]).sum(axis=1)
    assert (own > 0.8).all()
    assert (own < 1 - 1e-4).mean() > 0.95
    np.testing.assert_array_equal(queries, mixed_queries(VECTORS, 100))


def test_recall_is_the_share_of_the_best_ten_that_come():
    exact = exact_search(mixed_queries(VECTORS, 50), VECTORS, 10)
    assert recall_at_10(lambda queries, k: list(exact), VECTORS, 50) == (1, 50)
    seven = [np.append(best[:7], [-1, -1, -1]) for best in exact]
    assert recall_at_10(lambda queries, k: seven, VECTORS, 50) == (pytest.approx(0.7), 50)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_vectors_are_asked_as_far_as_they_go(rows):
    few = Whole(unit_vectors(1)[:rows] if rows < 2 else np.array([[1, 0], [-1, 0]], np.float32))

    def search(queries, k):
        assert np.isfinite(queries).all()
        return list(exact_search(queries, few, k))

    assert recall_at_10(search, few, 100) == (1, rows)


def test_a_manifest_says_what_was_asked_and_an_older_one_asked_its_own_vectors(tmp_path):
    manifest = write_index(tmp_path, unit_vectors(200))
    assert manifest.segments[0].recall_asked == "mixed vectors"
    values = json.loads((tmp_path / MANIFEST).read_text())
    del values["segments"][0]["recall_asked"]
    write_values(tmp_path, values)
    assert Manifest.read(tmp_path).segments[0].recall_asked == OWN_VECTORS
    manifest.write(tmp_path)
    as_format(tmp_path, 1)
    assert Manifest.read(tmp_path).segments[0].recall_asked == OWN_VECTORS
    assert verify(tmp_path) == ([], 1.0)
