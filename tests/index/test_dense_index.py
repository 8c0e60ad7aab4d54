import numpy as np
import pytest
from index_cases import DIMENSION, passages, touched, unit_vectors, write_index

from index.dense_index import DenseIndex
from index.manifest.segments import FAISS_FILE
from index.records import Hit, Passage


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense") / "index"
    write_index(folder, unit_vectors(250))
    return folder


def test_hits_come_best_first_with_exact_cosines(folder):
    vectors, queries = unit_vectors(250), unit_vectors(3, seed=1)
    for query, hits in zip(queries, DenseIndex.open(folder).search(queries, 10), strict=True):
        cosines = vectors @ query
        order = np.argsort(-cosines)[:10]
        assert [hit.id for hit in hits] == [f"p{row:04d}" for row in order]
        assert [hit.rank for hit in hits] == list(range(1, 11))
        np.testing.assert_allclose([hit.score for hit in hits], cosines[order], rtol=0, atol=1e-6)


def test_a_query_finds_the_same_bits_alone_and_in_company(folder):
    opened, queries = DenseIndex.open(folder), unit_vectors(64, seed=1)
    together = opened.search(queries, 10)
    assert [opened.search(query[None], 10)[0] for query in queries] == together


def test_k_beyond_the_corpus_gives_all(folder):
    (hits,) = DenseIndex.open(folder).search(unit_vectors(1, seed=1), 10_000)
    assert sorted(hit.id for hit in hits) == [text.id for text in passages(250)]


def test_cosines_of_named_passages(folder):
    opened, query = DenseIndex.open(folder), unit_vectors(1, seed=1)[0]
    found = opened.cosines(query, ["p0200", "p0003"])
    np.testing.assert_allclose(found, unit_vectors(250)[[200, 3]] @ query, rtol=0, atol=1e-6)
    assert opened.cosines(query, []).shape == (0,)
    with pytest.raises(ValueError, match="has no passage 'nobody'"):
        opened.cosines(query, ["nobody"])


@pytest.mark.parametrize("factory", ["Flat", "HNSW32,Flat", "SQ8"])
@pytest.mark.parametrize("equal", [5, 60])
def test_ties_are_broken_by_id_even_where_k_cuts_them(tmp_path, factory, equal):
    vectors = unit_vectors(400)
    vectors[-equal:] = vectors[0]
    # The smallest ids stand last in the index, so taking the first found would be wrong.
    texts = [Passage(f"p{len(vectors) - row:04d}", "", "text") for row in range(len(vectors))]
    write_index(tmp_path / "index", vectors, factory=factory, texts=texts)
    (hits,) = DenseIndex.open(tmp_path / "index").search(vectors[:1], 3)
    assert [hit.id for hit in hits] == ["p0001", "p0002", "p0003"]
    assert len({hit.score for hit in hits}) == 1


def test_passages_by_id(folder):
    opened = DenseIndex.open(folder)
    assert opened.passages(["p0200", "p0003"]) == [passages(250)[200], passages(250)[3]]
    with pytest.raises(ValueError, match="has no passage 'q'"):
        opened.passages(["p0003", "q"])


def test_bad_searches(folder):
    opened = DenseIndex.open(folder)
    with pytest.raises(ValueError, match="k is 0, wanted at least 1"):
        opened.search(unit_vectors(1), 0)
    with pytest.raises(ValueError, match=rf"shape \(1, 16\), wanted \[n, {DIMENSION}\]"):
        opened.search(unit_vectors(1, 16), 5)
    assert opened.search(np.empty((0, DIMENSION), np.float32), 5) == []


def test_one_passage(tmp_path):
    write_index(tmp_path / "index", unit_vectors(1))
    opened = DenseIndex.open(tmp_path / "index")
    (hits,) = opened.search(unit_vectors(1), 10)
    assert hits == [Hit("p0000", pytest.approx(1.0), 1)]


@pytest.mark.parametrize("name", [FAISS_FILE, "passages-00001.parquet", "vectors-00000.arrow"])
@pytest.mark.parametrize("how", ["missing", "cut"])
def test_a_damaged_index_is_told(tmp_path, name, how):
    """A file that is missing when the index is opened, what a shard holds when it is touched."""
    folder = tmp_path / "index"
    path = folder / write_index(folder, unit_vectors(250)).segments[0].data / name
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"the index in .* is damaged .*--overwrite"):
        touched(DenseIndex.open(folder))
