"""Segments and deletions: a search sees the live passages, as if they had been indexed together."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_cases import (
    DIMENSION,
    as_format,
    change_index,
    passages,
    unit_vectors,
    write_index,
)

from index.dense.products import inner_products
from index.dense.recall import exact_search
from index.dense_index import DenseIndex
from index.disk import mapped
from index.disk.files import only_writer
from index.manifest.manifest import Manifest
from index.records import Passage
from index.verify import verify
from index.writing.change import IndexChange
from index.writing.writer import IndexWriter

VECTORS = unit_vectors(400)
# Few, so that many passages tie, and some that differ from those in their last bits alone.
CLOSE = np.concatenate([VECTORS[:6], np.nextafter(VECTORS[:6], np.float32(1))])
IDS = [f"p{number}" for number in range(12)]
CHANGES = st.one_of(
    st.tuples(
        st.just("add"), st.dictionaries(st.sampled_from(IDS), st.integers(0, len(CLOSE) - 1))
    ),
    st.tuples(st.just("delete"), st.lists(st.sampled_from(IDS), unique=True)),
    st.tuples(st.just("compact"), st.none()),
)


def _as_built(folder, live, **how):
    texts = [Passage(id_, "", f"text {row}") for id_, row in live.items()]
    return write_index(folder, CLOSE[list(live.values())], texts=texts, **how)


def _same_as_fresh(folder, live, fresh):
    """The index finds and says what one that was built from the live passages does."""
    opened = DenseIndex.open(folder)
    assert sorted(opened.ids) == sorted(live)
    assert len(opened) == len(live) == opened.manifest.passages
    if not live:
        assert opened.search(CLOSE, 3) == [[]] * len(CLOSE)
        return
    built = DenseIndex(fresh, _as_built(fresh, live, overwrite=True))
    for k in (1, 3, 100):
        assert opened.search(CLOSE, k) == built.search(CLOSE, k)
    assert opened.passages(list(live)) == built.passages(list(live))
    np.testing.assert_array_equal(
        opened.vectors[np.arange(len(live))], CLOSE[[live[id_] for id_ in opened.ids]]
    )


def _gives_what_a_fresh_build_gives(tmp_path_factory, changes, shard_size):
    folder = tmp_path_factory.mktemp("change")
    live = {id_: row for row, id_ in enumerate(IDS[:4])}
    _as_built(folder / "index", live, shard_size=shard_size)
    for kind, what in changes:
        if kind == "add":
            texts = [Passage(id_, "", f"text {row}") for id_, row in what.items()]
            vectors = CLOSE[list(what.values())]
            change_index(folder / "index", texts, vectors, shard_size=shard_size)
            live |= what
        elif kind == "delete":
            change_index(folder / "index", deleted=what)
            live = {id_: row for id_, row in live.items() if id_ not in what}
        else:
            manifest = change_index(folder / "index", compact=True, shard_size=shard_size)
            assert (len(manifest.segments), manifest.deleted) == (bool(live), 0)
        _same_as_fresh(folder / "index", live, folder / "fresh")
    assert verify(folder / "index") == ([], 1.0)


SEQUENCES = st.lists(CHANGES, min_size=1, max_size=5)


@settings(max_examples=12)
@given(SEQUENCES, st.integers(1, 5))
def test_changes_give_what_a_fresh_build_gives(tmp_path_factory, changes, shard_size):
    """Scores and order bit for bit, after every change."""
    _gives_what_a_fresh_build_gives(tmp_path_factory, changes, shard_size)


@pytest.mark.slow
@settings(max_examples=300)
@given(SEQUENCES, st.integers(1, 5))
def test_many_changes_give_what_a_fresh_build_gives(tmp_path_factory, changes, shard_size):
    _gives_what_a_fresh_build_gives(tmp_path_factory, changes, shard_size)


@pytest.mark.parametrize("parts", [1, 4])
def test_flat_search_is_exact_among_vectors_that_rounding_can_not_tell_apart(tmp_path, parts):
    """FAISS adds up in another order than ours, and some queries' best lie beyond its first 26."""
    noise = np.random.default_rng(0).normal(size=(1000, DIMENSION))
    vectors = VECTORS[:1] + (1e-7 * noise).astype(np.float32)
    texts = passages(1000)
    write_index(tmp_path, vectors[:100], texts=texts[:100])
    for rows in np.array_split(np.arange(100, 1000), parts):
        change_index(tmp_path, [texts[row] for row in rows], vectors[rows], shard_size=1000)
    queries = unit_vectors(60, seed=1)
    for query, hits in zip(queries, DenseIndex.open(tmp_path).search(queries, 10), strict=True):
        scores = inner_products(vectors, np.arange(1000), query)
        best = sorted(zip(-scores, (text.id for text in texts), strict=True))[:10]
        assert [(-hit.score, hit.id) for hit in hits] == best


# The share of the ten nearest that such an index, whole, finds of these vectors (test_faiss_index).
KINDS = {
    "Flat": 1, "HNSW32,Flat": 1, "IVF16,Flat": 1, "IVF8,PQ8x4fs": 0.9, "SQ8": 1, "PCA16,SQ8": 0.9,
    "IVF4,RaBitQ": 0.8,
}  # fmt: skip


@pytest.mark.parametrize("factory", KINDS)
def test_deleted_passages_take_no_place_from_live_ones(tmp_path, factory):
    """Of each query's 200 nearest none is left: far more than a search for 10 fetches."""
    vectors, query = unit_vectors(1000), unit_vectors(1, seed=1)
    write_index(tmp_path, vectors, factory=factory, shard_size=500)
    nearest = [passages(1000)[row].id for row in np.argsort(-(vectors @ query[0]))]
    change_index(tmp_path, deleted=nearest[:200])
    opened = DenseIndex.open(tmp_path)
    (hits,) = opened.search(query, 10)
    assert len(hits) == 10
    found = {hit.id for hit in hits}
    assert not found & set(nearest[:200])
    assert len(found & set(nearest[200:210])) >= 10 * KINDS[factory]
    assert verify(tmp_path).recall_at_10 >= opened.manifest.recall_at_10 - 0.02
    (everything,) = opened.search(query, 1000)
    assert {hit.id for hit in everything} == set(nearest[200:])


def test_where_all_that_is_near_is_deleted_the_rest_is_found(tmp_path):
    """A search reads 64 of these 200 lists; what lies in them is deleted."""
    vectors, query = unit_vectors(1000), unit_vectors(1, seed=1)
    write_index(tmp_path, vectors, factory="IVF200,Flat", shard_size=1000)
    nearest = [passages(1000)[row].id for row in np.argsort(-(vectors @ query[0]))]
    change_index(tmp_path, deleted=nearest[:600])
    (hits,) = DenseIndex.open(tmp_path).search(query, 10)
    assert [hit.id for hit in hits] == nearest[600:610]


def test_a_graph_of_which_most_is_deleted_still_finds_its_rest(tmp_path):
    vectors = unit_vectors(2000)
    write_index(tmp_path, vectors, factory="HNSW16,Flat", shard_size=1000)
    kept = np.arange(0, 2000, 20)
    change_index(tmp_path, deleted=[f"p{row:04d}" for row in np.setdiff1d(np.arange(2000), kept)])
    queries = unit_vectors(20, seed=1)
    found = DenseIndex.open(tmp_path).search(queries, 10)
    exact = exact_search(queries, DenseIndex.open(tmp_path).vectors, 10)
    hits = [[hit.score for hit in each] for each in found]
    np.testing.assert_allclose(hits, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_everything_live_and_nothing_else_is_read(tmp_path, version):
    write_index(tmp_path, VECTORS[:300])
    as_format(tmp_path, version)
    texts = passages(400)
    again = [texts[3]._replace(text="another"), *texts[300:]]
    manifest = change_index(tmp_path, again, VECTORS[[3, *range(300, 400)]], deleted=["p0007"])
    assert (manifest.passages, manifest.deleted, manifest.changes) == (399, 2, 1)
    assert (manifest.truncated, manifest.skipped) == (3, 2)
    opened = DenseIndex.open(tmp_path)
    assert opened.ids == [text.id for text in (*texts[:3], *texts[4:7], *texts[8:300], *again)]
    assert opened.passages(["p0003", "p0399", "p0299"]) == [again[0], texts[399], texts[299]]
    for id_ in ("p0007", "p0400"):
        with pytest.raises(ValueError, match=f"has no passage '{id_}'"):
            opened.passages([id_])
        with pytest.raises(ValueError, match=f"has no passage '{id_}'"):
            opened.cosines(VECTORS[0], [id_])
    (hits,) = opened.search(VECTORS[:1], 50)
    cosines = opened.cosines(VECTORS[0], [hit.id for hit in hits])
    assert cosines.tolist() == [hit.score for hit in hits]
    rows = np.array([398, 0, 3])
    np.testing.assert_array_equal(opened.vectors[rows], VECTORS[[399, 0, 4]])
    assert verify(tmp_path) == ([], 1.0)


def test_what_a_change_reads_and_writes(tmp_path, monkeypatch):
    """Adding and deleting touch no old vector and no old text: only ids and bits."""
    write_index(tmp_path, VECTORS[:300])
    old = {path: path.stat().st_mtime_ns for path in (tmp_path / "data-0001").iterdir()}
    really, read = mapped.mapped, []

    def recorded(data, name):
        read.append(data.name)
        return really(data, name)

    monkeypatch.setattr(mapped, "mapped", recorded)  # how shards are read
    change_index(tmp_path, passages(400)[300:], VECTORS[300:])
    assert set(read) == {"data-0002"}
    read.clear()
    change_index(tmp_path, deleted=["p0001", "p0350"])
    assert not read
    assert {path: path.stat().st_mtime_ns for path in old} == old
    new = sorted(path.name for path in tmp_path.rglob("*.bits"))
    assert new == ["deleted-00001.bits", "deleted-00001.bits"]
    assert (tmp_path / "data-0001" / new[0]).stat().st_size == 38


def test_a_segment_without_a_live_passage_is_gone_and_its_name_never_comes_again(tmp_path):
    write_index(tmp_path, VECTORS[:10])
    change_index(tmp_path, [Passage("a", "", "text")], VECTORS[:1])
    for number in (3, 4):
        manifest = change_index(tmp_path, [Passage("a", "", "other")], VECTORS[:1])
        assert [each.data for each in manifest.segments] == ["data-0001", f"data-{number:04d}"]
    change_index(tmp_path, deleted=["a", *(text.id for text in passages(10))])
    assert not list(tmp_path.glob("data-*"))
    assert verify(tmp_path) == ([], 1.0)
    assert DenseIndex.open(tmp_path).search(VECTORS[:2], 5) == [[], []]
    change_index(tmp_path, compact=True)
    manifest = change_index(tmp_path, [Passage("a", "", "text")], VECTORS[:1])
    assert [each.data for each in manifest.segments] == ["data-0005"]
    write_index(tmp_path, VECTORS[:3], overwrite=True)
    assert [path.name for path in tmp_path.glob("data-*")] == ["data-0006"]


def test_compact_regroups_shards_and_bounds_what_was_truncated(tmp_path):
    write_index(tmp_path, VECTORS[:250])  # one truncated passage a shard of 100
    change_index(tmp_path, deleted=[text.id for text in passages(199)])
    manifest = change_index(tmp_path, compact=True, shard_size=20, factory="SQ8")
    (segment,) = manifest.segments
    assert [shard.rows for shard in segment.shards] == [20, 20, 11]
    assert [shard.truncated for shard in segment.shards] == [2, 0, 0]
    assert (manifest.truncated, segment.faiss_factory) == (2, "SQ8")
    assert DenseIndex.open(tmp_path).ids == [text.id for text in passages(250)[199:]]
    assert [path.name for path in tmp_path.glob("data-*")] == ["data-0002"]


@pytest.mark.parametrize("name", ["vectors-00001.arrow", "passages-00000.parquet"])
def test_compact_refuses_to_copy_what_has_changed(tmp_path, name):
    """The digest of a copy would say that it is whole."""
    write_index(tmp_path, VECTORS)
    path = tmp_path / "data-0001" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = Manifest.read(tmp_path)
    with pytest.raises(ValueError, match=rf"is damaged \(data-0001: {name} has changed\)"):
        change_index(tmp_path, compact=True)
    assert Manifest.read(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock", "data-0001", "manifest.json",
    ]  # fmt: skip


def test_every_passage_is_found_by_its_own_vector_before_and_after_compact(tmp_path):
    write_index(tmp_path, VECTORS[:300])
    change_index(tmp_path, passages(400)[300:], VECTORS[300:], deleted=["p0005", "p0299"])
    for _ in range(2):
        opened = DenseIndex.open(tmp_path)
        found = opened.search(opened.vectors[np.arange(len(opened))], 1)
        assert [hits[0].id for hits in found] == opened.ids
        change_index(tmp_path, compact=True)


def test_an_index_that_was_opened_before_stays_what_it_was(tmp_path):
    write_index(tmp_path, VECTORS[:300])
    opened = [DenseIndex.open(tmp_path)]
    change_index(tmp_path, passages(400)[300:], VECTORS[300:])
    opened.append(DenseIndex.open(tmp_path))
    change_index(tmp_path, deleted=[text.id for text in passages(350)])
    opened.append(DenseIndex.open(tmp_path))
    change_index(tmp_path, compact=True)
    assert [path.name for path in tmp_path.glob("data-*")] == ["data-0003"]
    for each, rows in zip(opened, (range(300), range(400), range(350, 400)), strict=True):
        assert each.ids == [f"p{row:04d}" for row in rows]
        (hits,) = each.search(VECTORS[rows[-1]][None], 1)
        assert each.passages([hits[0].id]) == [passages(400)[rows[-1]]]


@pytest.mark.parametrize("compact", [True, False])
def test_a_reader_in_the_middle_of_a_commit_gets_the_new_index(tmp_path, monkeypatch, compact):
    """The manifest was read, then the files that it names went."""
    write_index(tmp_path, VECTORS[:300])
    change_index(tmp_path, deleted=["p0001"])
    read, done = Manifest.read, []

    def read_and_change(folder):
        manifest = read(folder)
        if not done:
            done.append(manifest)
            monkeypatch.setattr(Manifest, "read", read)
            change_index(tmp_path, deleted=["p0002"], compact=False)
            change_index(tmp_path, compact=compact)
        return manifest

    monkeypatch.setattr(Manifest, "read", read_and_change)
    opened = DenseIndex.open(tmp_path)
    assert opened.manifest == read(tmp_path) != done[0]
    assert len(opened.ids) == 298


def test_a_second_writer_is_told_who_is_at_work(tmp_path):
    write_index(tmp_path, VECTORS[:10])
    with only_writer(tmp_path), IndexChange(tmp_path):
        with pytest.raises(ValueError, match=r"another process is writing in .* \(process \d+ on "):
            change_index(tmp_path, deleted=["p0001"])
        assert len(DenseIndex.open(tmp_path)) == 10


def test_an_unfinished_build_is_not_lost_to_a_change(tmp_path):
    write_index(tmp_path, VECTORS[:10])
    writer = IndexWriter(tmp_path, Manifest.read(tmp_path).plan, resume=False, overwrite=True)
    change_index(tmp_path, deleted=["p0002"])  # not a shard of it is whole
    writer = IndexWriter(tmp_path, Manifest.read(tmp_path).plan, resume=False, overwrite=True)
    writer.add_shard(passages(5), VECTORS[:5], truncated=0)
    with pytest.raises(ValueError, match=r"holds an unfinished build; go on with it"):
        change_index(tmp_path, deleted=["p0001"])
    assert (tmp_path / "building" / "shard-00000.json").exists()


def test_a_build_can_not_resume_what_was_changed(tmp_path):
    manifest = write_index(tmp_path, VECTORS[:10])
    change_index(tmp_path, deleted=["p0001"])
    with pytest.raises(ValueError, match="was changed 1 times since it was built; --overwrite"):
        IndexWriter(tmp_path, manifest.plan, resume=True, overwrite=False)


def test_a_change_that_fails_leaves_nothing(tmp_path):
    write_index(tmp_path / "index", VECTORS[:10])
    shutil.copytree(tmp_path / "index", tmp_path / "before")
    with pytest.raises(ValueError, match="FAISS can't build 'IVF64,Flat'"):
        change_index(
            tmp_path / "index", passages(5), VECTORS[:5], factory="IVF64,Flat", shard_size=2
        )
    found, wanted = (
        {path.relative_to(top): path.is_file() and path.read_bytes() for path in top.rglob("*")}
        for top in (tmp_path / "index", tmp_path / "before")
    )
    assert found == wanted
