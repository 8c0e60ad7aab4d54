"""A product has the same bits alone and in company, copied or read where it lies."""

import numpy as np
import pytest
from index_cases import passages, unit_vectors

from index.dense.build import build_faiss
from index.dense.file import read_faiss, write_faiss
from index.dense.kinds import whole_vectors
from index.dense.products import inner_products, pair_products
from index.manifest.segments import FAISS_FILE
from index.store import shards as store
from index.store.shards import VectorTable, write_shard

SIZES, EVEN, EVEN_BUT_THE_LAST = (300, 5, 1, 64, 130), (200, 200, 100), (100, 100, 300)


def _table(folder, dimension, precision="float32", sizes=SIZES):
    """Shards of such sizes, and what they hold in one matrix."""
    vectors = unit_vectors(sum(sizes), dimension)
    parts = np.split(vectors, np.cumsum(sizes)[:-1])
    records = [
        write_shard(folder, number, passages(len(part)), part, 0, precision)
        for number, part in enumerate(parts)
    ]
    table = VectorTable(folder, records, dimension, precision)
    return table, np.concatenate(list(table.parts))


def _pairs(dimension):
    generator = np.random.default_rng(0)
    rows, asked = generator.integers(sum(SIZES), size=900), generator.integers(7, size=900)
    return rows, unit_vectors(7, dimension, seed=1), asked


@pytest.mark.parametrize(
    ("dimension", "sizes"),
    [
        (1, SIZES), (7, SIZES), (32, EVEN), (33, EVEN_BUT_THE_LAST), (100, SIZES), (384, EVEN),
        (384, SIZES),
    ],
)  # fmt: skip
def test_bits_depend_on_a_vector_and_a_query_alone(tmp_path, dimension, sizes):
    """Rows lie at steps of 4 to 1,536 bytes, in files that begin at whole pages."""
    table, whole = _table(tmp_path, dimension, sizes=sizes)
    rows, queries, asked = _pairs(dimension)
    products = pair_products(table, rows, queries, asked)
    np.testing.assert_array_equal(products, pair_products(whole, rows, queries, asked))
    alone = [inner_products(whole, rows[n : n + 1], queries[asked[n]])[0] for n in range(0, 900, 9)]
    np.testing.assert_array_equal(products[::9], alone)
    wanted = (whole[rows].astype(np.float64) * queries[asked]).sum(axis=1)
    np.testing.assert_allclose(products, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_what_is_stored_otherwise_is_copied_and_gives_the_same(tmp_path, precision):
    table, whole = _table(tmp_path, 32, precision)
    rows, queries, asked = _pairs(32)
    assert table.addresses(rows) is None
    np.testing.assert_array_equal(
        pair_products(table, rows, queries, asked), pair_products(whole, rows, queries, asked)
    )


def test_more_shards_than_stay_mapped_are_copied_and_give_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MOST_MAPPED", 2)
    table, whole = _table(tmp_path, 32)
    rows, queries, asked = _pairs(32)
    assert table.addresses(rows) is None
    np.testing.assert_array_equal(
        pair_products(table, rows, queries, asked), pair_products(whole, rows, queries, asked)
    )


def test_no_pairs_and_no_such_row(tmp_path):
    table, whole = _table(tmp_path, 32)
    nothing = np.empty(0, np.int64)
    assert pair_products(table, nothing, unit_vectors(1), nothing).shape == (0,)
    for row in (-1, sum(SIZES)):
        with pytest.raises(IndexError, match="of 500"):
            table.addresses(np.array([3, row]))
        with pytest.raises(IndexError, match="of 500"):
            inner_products(whole, np.array([3, row]), whole[0])


@pytest.mark.parametrize("factory", ["Flat", "HNSW8,Flat"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_vectors_that_faiss_keeps_are_read_there_and_give_the_same(tmp_path, factory, precision):
    """In its file they begin at an odd byte."""
    table, whole = _table(tmp_path, 33, precision)
    with (tmp_path / FAISS_FILE).open("wb") as file:
        write_faiss(build_faiss(factory, 33, table), file)
    built = read_faiss(tmp_path, FAISS_FILE, 33, len(table))
    theirs = whole_vectors(built)
    np.testing.assert_array_equal(theirs, whole)
    assert not theirs.flags.owndata
    rows, queries, asked = _pairs(33)
    np.testing.assert_array_equal(
        pair_products(theirs, rows, queries, asked), pair_products(table, rows, queries, asked)
    )


@pytest.mark.parametrize("factory", ["SQ8", "HNSW8,SQ8", "IVF4,Flat", "PCA8,Flat"])
def test_what_faiss_keeps_otherwise_is_not_taken_for_vectors(tmp_path, factory):
    table, _ = _table(tmp_path, 32)
    assert whole_vectors(build_faiss(factory, 32, table)) is None


def test_pairs_may_lie_apart_in_memory(tmp_path):
    _, whole = _table(tmp_path, 32)
    rows, queries, asked = _pairs(32)
    apart = np.stack([asked, rows], axis=1)
    np.testing.assert_array_equal(
        pair_products(whole, apart[:, 1], queries, apart[:, 0]),
        pair_products(whole, rows, queries, asked),
    )
