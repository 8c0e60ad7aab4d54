from pathlib import Path

import faiss
import numpy as np
import pytest
from index_cases import DIMENSION, unit_vectors, write_index

from index.dense.build import _training_sample, build_faiss, reserve
from index.dense.file import read_faiss, write_faiss
from index.dense.kinds import choose_factory, coded_indexes, inner_index, linked_index
from index.dense.recall import exact_search, recall_at_10
from index.dense.search import search_faiss
from index.dense.threads import faiss_threads
from index.dense_index import DenseIndex
from index.manifest.segments import FAISS_FILE

ROWS = 3000
# Half of the dimensions a code keeps, or graphs and lists probed as widely as ours: what a sound
# index reaches on these vectors; one whose training or probing is broken falls far below.
FACTORIES = {
    "Flat": 1.0,
    "HNSW32,Flat": 0.99,
    "IVF16,Flat": 0.99,
    "IVF16,PQ16x4fs": 0.95,
    "OPQ2_16,SQ8": 0.95,
    "PCA16,SQ8": 0.95,
    "SQ8": 0.99,
    "IVF16,SQ8": 0.99,
    "HNSW16,SQ8": 0.95,
    "IVF16,RaBitQ": 0.8,
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table") / "index"
    write_index(folder, unit_vectors(ROWS), shard_size=1000)
    return DenseIndex.open(folder).segments[0].vectors


@pytest.fixture(scope="module")
def whole(table):
    return np.concatenate(table.parts)


@pytest.mark.parametrize("factory", FACTORIES)
def test_faiss_finds_what_exact_search_finds(factory, table, whole, tmp_path):
    """Read back from its file, as a search does."""
    queries = unit_vectors(50, seed=1)
    with (tmp_path / FAISS_FILE).open("wb") as file:
        write_faiss(build_faiss(factory, DIMENSION, table), file)
    built = read_faiss(tmp_path, FAISS_FILE, DIMENSION, ROWS)
    found = search_faiss(built, factory, table, queries, 10)
    exact = exact_search(queries, table, 10)
    hits = 0
    for query, (rows, scores), best in zip(queries, found, exact, strict=True):
        assert len(set(rows.tolist())) == len(rows) == 10
        np.testing.assert_allclose(scores, whole[rows] @ query, rtol=0, atol=1e-6)
        hits += (scores >= best[-1] - 1e-6).sum()
    assert hits / exact.size >= FACTORIES[factory]
    recall, asked = recall_at_10(
        lambda *asked: [scores for _, scores in search_faiss(built, factory, table, *asked)],
        table,
        100,
    )
    assert asked == 100
    assert FACTORIES[factory] <= recall <= 1


def test_exact_search_is_the_definition(table, whole):
    queries = unit_vectors(7, seed=2)
    wanted = -np.sort(-(queries @ whole.T), axis=1)[:, :25]
    np.testing.assert_allclose(exact_search(queries, table, 25), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factory", ["HNSW32,Flat", "IVF16,PQ16x4fs"])
def test_the_same_vectors_give_the_same_file(factory, table):
    """Whatever the number of threads: a graph is linked by one where that is asked for."""
    files = []
    for threads in (1, 2):
        with faiss_threads(threads):
            built = build_faiss(factory, DIMENSION, table, deterministic=True)
        files.append(faiss.serialize_index(built))
    np.testing.assert_array_equal(*files)


@pytest.mark.parametrize("factory", ["IVF16,PQ16x4fs", "HNSW32,Flat"])
def test_asking_for_everything_gives_everything(factory, table):
    built = build_faiss(factory, table.parts[0].shape[1], table)
    ((rows, _),) = search_faiss(built, factory, table, unit_vectors(1, seed=3), ROWS)
    assert sorted(rows) == list(range(ROWS))


@pytest.mark.parametrize(
    ("factory", "reason"), [("Flat,Nonsense", "Nonsense"), ("", "''"), ("IVF5000,Flat", "IVF5000")]
)
def test_a_factory_string_that_cannot_be_built_is_one_sentence(factory, reason, table):
    with pytest.raises(ValueError, match="FAISS can't build") as raised:
        build_faiss(factory, table.parts[0].shape[1], table)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("factory", "deterministic", "threads"),
    [("HNSW16,Flat", False, 2), ("HNSW16,Flat", True, 1), ("Flat", True, 2)],
)
def test_a_graph_alone_is_linked_by_one_thread_and_only_where_that_is_asked_for(
    factory, deterministic, threads, table, monkeypatch
):
    seen = []
    kind = type(faiss.index_factory(DIMENSION, factory, faiss.METRIC_INNER_PRODUCT))
    add = kind.add

    def told(self, part):
        seen.append(faiss.omp_get_max_threads())
        add(self, part)

    monkeypatch.setattr(kind, "add", told)
    with faiss_threads(2):
        build_faiss(factory, DIMENSION, table, deterministic=deterministic)
    assert set(seen) == {threads}


@pytest.mark.parametrize("factory", ["Flat", "HNSW16,Flat", "IVF16,Flat", "IVF16,RaBitQ", "SQ8"])
def test_a_mapped_file_gives_the_same_bits_as_one_that_was_read(factory, table, tmp_path):
    with (tmp_path / FAISS_FILE).open("wb") as file:
        write_faiss(build_faiss(factory, DIMENSION, table), file)
    mapped = read_faiss(tmp_path, FAISS_FILE, DIMENSION, ROWS)
    read = faiss.read_index(str(tmp_path / FAISS_FILE))
    assert str(tmp_path / FAISS_FILE) in Path("/proc/self/maps").read_text()
    for mine, theirs in zip(*(x.search(unit_vectors(9), 20) for x in (mapped, read)), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_codes_of_few_vectors_in_many_lists_are_read(tmp_path):
    """FAISS would make a table for them that is larger than the file, and refuse to."""
    vectors = unit_vectors(300)
    write_index(tmp_path, vectors, factory="IVF64,PQ16x4fs")
    (hits,) = DenseIndex.open(tmp_path).search(vectors[:1], 1)
    assert hits[0].id == "p0000"


def test_building_gives_the_threads_back(table):
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    build_faiss("HNSW16,Flat", table.parts[0].shape[1], table)
    with pytest.raises(ValueError, match="can't build"):
        build_faiss("HNSW16,Nonsense", table.parts[0].shape[1], table)
    assert faiss.omp_get_max_threads() == 2
    faiss.omp_set_num_threads(threads)


@pytest.mark.parametrize(
    ("passages", "factory"),
    [
        (1, "Flat"),
        (50_000, "Flat"),
        (50_001, "HNSW32,Flat"),
        (1_000_000, "HNSW32,Flat"),
        (1_000_001, "IVF4096,PQ192x4fs"),
        (8_841_823, "IVF16384,PQ192x4fs"),
    ],
)
def test_the_size_of_the_corpus_chooses(passages, factory):
    assert choose_factory(passages, 384) == factory
    assert choose_factory(passages, 384, "SQ8") == "SQ8"
    faiss.index_factory(384, factory, faiss.METRIC_INNER_PRODUCT)


@pytest.mark.parametrize(
    "factory", ["PQ8x4", "PCA16,IVF4,PQ8x4", "PQ8x4,RFlat", "HNSW8,PQ8x4", "IVF4_HNSW8,PQ8x4"]
)
def test_no_codes_are_put_in_an_order_that_no_search_uses(factory, table):
    """FAISS does so by default, and it is the slowest part of training codes."""
    made = faiss.index_factory(DIMENSION, factory, faiss.METRIC_INNER_PRODUCT)
    assert [coded.do_polysemous_training for coded in coded_indexes(made)] == [True]
    built = build_faiss(factory, DIMENSION, table)
    assert [coded.do_polysemous_training for coded in coded_indexes(built)] == [False]


@pytest.mark.parametrize(("rows", "wanted"), [(50, 50), (50_000, 20_000)])
def test_a_seeded_row_of_every_so_many_is_trained_on(rows, wanted, tmp_path):
    """They lie on the disk, under no name that a kill could leave."""
    numbers = np.arange(rows, dtype=np.float32)[:, None]
    with _training_sample(numbers, None, tmp_path) as sample:
        assert isinstance(sample, np.memmap)
        assert list(tmp_path.iterdir()) == []
        assert sample.shape == (wanted, 1)
        steps = np.diff(sample[:, 0])
    assert steps.min() >= 1
    assert steps.max() < 2 * rows / wanted + 1


@pytest.mark.parametrize("factory", ["Flat", "SQ8", "HNSW32,Flat", "HNSW16,SQ8", "PCA16,SQ8"])
def test_what_lies_whole_is_not_moved_while_it_fills(factory, whole):
    """An array that moves is there twice for a while."""

    def addresses(built):
        inner = inner_index(built)
        arrays = [linked_index(inner).codes]
        if isinstance(inner, faiss.IndexHNSW):
            arrays += [inner.hnsw.neighbors, inner.hnsw.offsets, inner.hnsw.levels]
        return [int(array.data() or 0) for array in arrays]

    def fill(room):
        built = faiss.index_factory(DIMENSION, factory, faiss.METRIC_INNER_PRODUCT)
        built.train(whole)
        if room:
            reserve(built, ROWS)
        seen = {0: addresses(built)}
        for number, part in enumerate(np.array_split(whole, 7), 1):
            built.add(part)
            seen[number] = addresses(built)
        assert built.ntotal == ROWS
        return list(seen.values()), faiss.serialize_index(built)

    places, made = fill(room=True)
    assert all(each == places[0] for each in places)
    moving, plain = fill(room=False)
    assert all(first != last for first, last in zip(moving[0], moving[-1], strict=True))
    if not factory.startswith("HNSW"):  # whose threads race
        np.testing.assert_array_equal(made, plain)
