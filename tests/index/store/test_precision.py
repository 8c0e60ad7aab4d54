"""Vectors as float32, float16 or int8: what is stored, what is searched, what is copied."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from index_cases import (
    DIMENSION,
    PLAN,
    change_index,
    passages,
    touched,
    unit_vectors,
    write_index,
    write_values,
)

from index.dense.file import read_faiss
from index.dense.recall import exact_search
from index.dense_index import DenseIndex
from index.manifest.manifest import MANIFEST, Manifest
from index.manifest.plan import PRECISIONS
from index.manifest.segments import FAISS_FILE
from index.store.precision import as_table, concatenated, of_table, score_shift, stored
from index.store.shards import VectorTable, write_shard
from index.verify import verify

VECTORS = unit_vectors(300)


def _plan(precision):
    return replace(PLAN, settings={"shard_size": 100, "vectors": precision})


@pytest.fixture(params=PRECISIONS)
def precision(request):
    return request.param


def test_stored_vectors_are_near_and_as_long(precision):
    vectors = np.concatenate([VECTORS, np.eye(DIMENSION, dtype=np.float32), 0 * VECTORS[:1]])
    kept = stored(vectors, precision).floats()
    assert kept.dtype == np.float32
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), lengths, rtol=2**-10)
    # float16 has 11 bits; int8 rounds to 127 steps of the largest component, then keeps the length.
    step = {"float32": 0, "float16": 2**-11, "int8": 0.5 / 127}[precision]
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    angle = np.linalg.norm(kept - vectors, axis=1) / np.sqrt(DIMENSION)
    assert (angle <= 1.01 * step * largest[:, 0]).all()
    np.testing.assert_array_equal(kept[300:], vectors[300:])


def test_int8_never_makes_a_vector_longer():
    """Components of a little more than half a step are all rounded up."""
    vector = np.full(1000, 0.51 / 127, np.float32)
    vector[0] = 1
    kept = stored(vector[None] / np.linalg.norm(vector), "int8").floats()
    assert np.linalg.norm(kept) == pytest.approx(1, abs=1e-6)


def test_a_table_of_vectors_reads_back(precision):
    kept = stored(VECTORS, precision)
    read = of_table(as_table(kept), DIMENSION)
    halves = concatenated([kept.rows(slice(0, 7)), kept.rows(np.arange(300) >= 7)])
    for other in (read, halves):
        assert other.codes.dtype == kept.codes.dtype == np.dtype(precision)
        np.testing.assert_array_equal(other.codes, kept.codes)
        np.testing.assert_array_equal(other.floats(), kept.floats())


def test_vectors_in_several_pieces_are_read_too(precision):
    """As another program may write them."""
    kept = stored(VECTORS, precision)
    pieces = pa.concat_tables(
        [as_table(kept.rows(slice(0, 9))), as_table(kept.rows(slice(9, 300)))]
    )
    np.testing.assert_array_equal(of_table(pieces, DIMENSION).floats(), kept.floats())


def test_mapped_vectors_are_not_copied(tmp_path):
    shard = write_shard(tmp_path, 0, passages(300), VECTORS, truncated=0)
    table = VectorTable(tmp_path, [shard], DIMENSION)
    before = pa.total_allocated_bytes()
    part = table.parts[0]
    assert pa.total_allocated_bytes() - before < part.nbytes / 10
    assert np.shares_memory(part, table.parts[0])
    assert not part.flags.writeable


def test_rows_of_any_precision(tmp_path, precision):
    shards = [
        write_shard(
            tmp_path, number, passages(300)[part], VECTORS[part], truncated=0, precision=precision
        )
        for number, part in enumerate((slice(0, 120), slice(120, 300)))
    ]
    table = VectorTable(tmp_path, shards, DIMENSION, precision)
    kept = stored(VECTORS, precision).floats()
    rows = np.array([299, 0, 119, 120, 0])
    np.testing.assert_array_equal(table[rows], kept[rows])
    assert table[rows[:0]].shape == (0, DIMENSION)
    np.testing.assert_array_equal(np.concatenate(table.parts), kept)
    np.testing.assert_array_equal(table.parts[-1:][0], kept[120:])


def test_a_search_finds_what_the_stored_vectors_say(tmp_path, precision):
    write_index(tmp_path, VECTORS, plan=_plan(precision))
    opened, queries = DenseIndex.open(tmp_path), unit_vectors(20, seed=1)
    kept = stored(VECTORS, precision).floats()
    found = [[hit.score for hit in hits] for hits in opened.search(queries, 10)]
    np.testing.assert_allclose(found, -np.sort(-queries @ kept.T)[:, :10], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, exact_search(queries, opened.vectors, 10), rtol=0, atol=1e-6)
    built = read_faiss(tmp_path / "data-0001", FAISS_FILE, DIMENSION, 300)
    np.testing.assert_array_equal(built.reconstruct_n(0, 300), kept)
    assert verify(tmp_path) == ([], 1.0)


def test_changes_keep_the_precision_and_compact_copies_the_codes(tmp_path, precision):
    plan = _plan(precision)
    write_index(tmp_path / "index", VECTORS[:200], plan=plan)
    change_index(tmp_path / "index", passages(300)[200:], VECTORS[200:], deleted=["p0007"])
    whole = [row for row in range(300) if row != 7]
    texts = [passages(300)[row] for row in whole]
    write_index(tmp_path / "fresh", VECTORS[whole], texts=texts, plan=plan)
    queries = unit_vectors(20, seed=1)
    fresh = DenseIndex.open(tmp_path / "fresh").search(queries, 10)
    shift = Manifest.read(tmp_path / "index").score_shift
    for _ in range(2):
        opened = DenseIndex.open(tmp_path / "index")
        assert opened.search(queries, 10) == fresh
        assert {each.vectors for each in opened.manifest.segments} == {precision}
        np.testing.assert_array_equal(
            opened.vectors[np.arange(299)], stored(VECTORS[whole], precision).floats()
        )
        assert opened.manifest.score_shift == pytest.approx(shift)
        change_index(tmp_path / "index", compact=True, shard_size=70)


def test_the_shift_of_scores_is_measured(tmp_path, precision):
    manifest = write_index(tmp_path, VECTORS, plan=_plan(precision))
    moved = [
        np.abs(part[np.linspace(0, 99, 32).astype(int)] @ (part - kept).T)
        for part, kept in zip(
            VECTORS.reshape(3, 100, -1),
            stored(VECTORS, precision).floats().reshape(3, 100, -1),
            strict=True,
        )
    ]
    most, mean = manifest.score_shift
    assert most == pytest.approx(max(each.max() for each in moved), rel=1e-3)
    assert mean == pytest.approx(np.mean(moved), rel=1e-3)
    assert (most > 0) == (precision != "float32")
    assert score_shift(VECTORS[:1], stored(VECTORS[:1], precision)).most < 0.01


def test_a_manifest_and_files_of_another_precision_are_told(tmp_path):
    write_index(tmp_path, VECTORS, plan=_plan("int8"))
    before = (tmp_path / MANIFEST).read_text()

    def changed(setting, of_segment):
        values = json.loads(before)
        values["settings"]["vectors"] = setting
        values["segments"][0]["vectors"] = of_segment
        write_values(tmp_path, values)
        return touched(DenseIndex.open(tmp_path))

    wanted = "float32 or float16 or int8"
    with pytest.raises(ValueError, match=rf"segments\[0\]\.vectors is 'int4', wanted {wanted}"):
        changed("int8", "int4")
    with pytest.raises(ValueError, match=rf"settings\.vectors is 8, wanted {wanted}"):
        changed(8, "int8")
    with pytest.raises(ValueError, match=r"segments\[0\]\.vectors is int8, those of this index ar"):
        changed("float16", "int8")
    with pytest.raises(ValueError, match=r"holds vector: fixed_size_list<item: int8>\[32\], scale"):
        changed("float16", "float16")
    (tmp_path / MANIFEST).write_text(before)
    touched(DenseIndex.open(tmp_path))
