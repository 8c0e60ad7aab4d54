"""Only some rows count: FAISS is told so where it can be, and what comes is as good as exact."""

import faiss
import numpy as np
import pytest
from index_cases import DIMENSION, unit_vectors, write_index

from index.dense import search as faiss_search
from index.dense.build import build_faiss
from index.dense.products import inner_products
from index.dense.search import search_faiss
from index.dense.selection import Selection
from index.dense_index import DenseIndex

ROWS = 4000
# Recall@10 among the live rows alone; the kinds in brackets can't be told which those are.
TOLD = {
    "Flat": 1.0, "HNSW16,Flat": 0.99, "HNSW16,SQ8": 0.95, "IVF16,Flat": 0.99, "SQ8": 0.99,
    "IVF16,PQ16x4fs": 0.9, "IVF16,SQ8": 0.99, "IVF16,RaBitQ": 0.8, "PCA16,SQ8": 0.9,
    "OPQ16_32,IVF16,PQ16x4fs": 0.9,
}  # fmt: skip
NOT_TOLD = {"PQ16x4fs": 0.9, "PQ16x6np": 0.9, "IVF16,PQ16x4fs,RFlat": 0.9}
KINDS = TOLD | NOT_TOLD


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection") / "index"
    write_index(folder, unit_vectors(ROWS), shard_size=1000)
    return DenseIndex.open(folder).segments[0].vectors


@pytest.fixture(scope="module", params=KINDS)
def kind(request, table):
    return request.param, build_faiss(request.param, DIMENSION, table)


def _live(share):
    return np.random.default_rng(4).random(ROWS) < share


@pytest.mark.parametrize("share", [0.9, 0.3, 0.05])
def test_as_much_is_found_as_if_only_live_rows_were_there(kind, table, monkeypatch, share):
    """Even where so few are live that their vectors would be compared instead."""
    monkeypatch.setattr(faiss_search, "_FEW", 0)
    (factory, built), live = kind, _live(share)
    queries = unit_vectors(40, seed=1)
    rows = np.flatnonzero(live)
    vectors = table[rows]
    hits = 0
    for query, (found, scores) in zip(
        queries, search_faiss(built, factory, table, queries, 10, live), strict=True
    ):
        assert live[found].all()
        assert len(set(found.tolist())) == len(found) == 10
        exact = inner_products(vectors, np.arange(len(rows)), query)
        np.testing.assert_array_equal(scores, exact[np.searchsorted(rows, found)])
        hits += (scores >= np.sort(exact)[-10]).sum()
    assert hits / 400 >= KINDS[factory]


def test_faiss_is_told_where_it_can_be(kind):
    """What a selection asks for holds live rows alone, but for kinds that can't be told."""
    (factory, built), live = kind, _live(0.3)
    _, rows = Selection(built, live).search(unit_vectors(5, seed=1), 20)
    assert bool(live[rows].all()) == (factory in TOLD)
    assert rows.shape[1] >= (20 if factory in TOLD else 20 / 0.3 * 0.9)


@pytest.mark.parametrize("few", [0, 20_000])
def test_every_live_row_comes_where_all_are_asked_for(kind, table, monkeypatch, few):
    monkeypatch.setattr(faiss_search, "_FEW", few)
    (factory, built), live = kind, _live(0.02)
    count = int(live.sum())
    for k in (count, count + 5):
        for found, _ in search_faiss(built, factory, table, unit_vectors(2, seed=1), k, live):
            assert sorted(found) == np.flatnonzero(live).tolist()
    nothing = search_faiss(built, factory, table, unit_vectors(2), 10, np.zeros(ROWS, bool))
    assert [len(found) for found, _ in nothing] == [0, 0]


def test_flat_is_exact_among_live_rows_that_rounding_can_not_tell_apart(
    table, tmp_path, monkeypatch
):
    """Bit for bit, whether FAISS is told, or all vectors are compared."""
    noise = np.random.default_rng(0).normal(size=(1000, DIMENSION))
    vectors = unit_vectors(1) + (1e-7 * noise).astype(np.float32)
    write_index(tmp_path, vectors, shard_size=300)
    near = DenseIndex.open(tmp_path).segments[0].vectors
    built, queries = build_faiss("Flat", DIMENSION, near), unit_vectors(30, seed=1)
    live = np.random.default_rng(2).random(1000) < 0.4
    for few in (0, 20_000):
        monkeypatch.setattr(faiss_search, "_FEW", few)
        for query, (rows, scores) in zip(
            queries, search_faiss(built, "Flat", near, queries, 10, live), strict=True
        ):
            products = inner_products(vectors, np.arange(1000), query)
            exact = np.where(live, products, -np.inf)
            wanted = np.flatnonzero(exact >= np.sort(exact)[-10])
            assert sorted(rows) == wanted.tolist()
            np.testing.assert_array_equal(scores, exact[rows])


def test_a_query_finds_the_same_alone_and_in_company_of_others(kind, table):
    (factory, built), live = kind, _live(0.7)
    queries = unit_vectors(20, seed=1)
    for mask in (None, live):
        together = search_faiss(built, factory, table, queries, 5, mask)
        for query, (rows, scores) in zip(queries, together, strict=True):
            ((alone, theirs),) = search_faiss(built, factory, table, query[None], 5, mask)
            assert dict(zip(rows, scores, strict=True)) == dict(zip(alone, theirs, strict=True))


def test_a_graph_behind_a_transformation_is_searched_as_widely(table):
    built = build_faiss("PCA16,HNSW8,Flat", DIMENSION, table)
    assert faiss.downcast_index(built.index).hnsw.efSearch == 128
    found = search_faiss(built, "PCA16,HNSW8,Flat", table, unit_vectors(5, seed=1), 10)
    assert [len(rows) for rows, _ in found] == [10] * 5
