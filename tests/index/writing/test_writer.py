from dataclasses import replace

import pytest
from index_cases import ENCODER, PLAN, passages, unit_vectors, write_index

from index.dense_index import DenseIndex
from index.disk.files import only_writer
from index.manifest.plan import BUILDING
from index.writing.writer import IndexWriter

ROWS, SHARD = 500, 100
TEXTS, VECTORS = passages(ROWS), unit_vectors(ROWS)


def _shard(number):
    part = slice(number * SHARD, (number + 1) * SHARD)
    return TEXTS[part], VECTORS[part]


def _begin(folder, shards, plan=PLAN):
    """A build that is given up after some shards, as a killed one leaves it."""
    folder.mkdir(exist_ok=True)
    writer = IndexWriter(folder, plan, resume=False, overwrite=True)
    for number in range(shards):
        writer.add_shard(*_shard(number), truncated=1)


def _publish(writer):
    return writer.publish(encoder=ENCODER, factory="auto", skipped=2, created_by={})


def _files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_resumed_build_gives_the_same_files(tmp_path):
    write_index(tmp_path / "whole", VECTORS)
    _begin(tmp_path / "resumed", 3)
    writer = IndexWriter(tmp_path / "resumed", PLAN, resume=True, overwrite=False)
    for number in range(ROWS // SHARD):
        if not writer.already_written(number, _shard(number)[0]):
            assert number >= 3
            writer.add_shard(*_shard(number), truncated=1)
    _publish(writer)
    assert _files(tmp_path / "resumed") | {".lock": b""} == _files(tmp_path / "whole")


def test_a_shard_whose_files_were_damaged_is_written_again(tmp_path):
    _begin(tmp_path, 3)
    (tmp_path / BUILDING / "vectors-00001.arrow").write_bytes(b"half")
    writer = IndexWriter(tmp_path, PLAN, resume=True, overwrite=False)
    assert [writer.already_written(n, _shard(n)[0]) for n in range(3)] == [True, False, False]


def test_a_changed_corpus_is_refused(tmp_path):
    _begin(tmp_path, 3)
    writer = IndexWriter(tmp_path, PLAN, resume=True, overwrite=False)
    assert writer.already_written(0, _shard(0)[0])
    changed = [TEXTS[SHARD]._replace(text="another"), *TEXTS[SHARD + 1 : 2 * SHARD]]
    with pytest.raises(ValueError, match=r"corpus has changed .*shard 1 differs"):
        writer.already_written(1, changed)


def test_a_corpus_that_lost_whole_shards_is_refused(tmp_path):
    """Passages that are gone from the corpus must not stay in the index of a resumed build."""
    _begin(tmp_path, 3)
    writer = IndexWriter(tmp_path, PLAN, resume=True, overwrite=False)
    assert writer.already_written(0, _shard(0)[0])
    with pytest.raises(ValueError, match=r"corpus has changed .*shard 1 differs"):
        _publish(writer)


def test_another_plan_is_refused(tmp_path):
    _begin(tmp_path, 1)
    other = replace(PLAN, encoder="another", settings={"shard_size": 7})
    with pytest.raises(ValueError, match="had another encoder, settings; repeat its options"):
        IndexWriter(tmp_path, other, resume=True, overwrite=False)


def test_an_unfinished_build_is_neither_lost_nor_mixed(tmp_path):
    _begin(tmp_path, 2)
    with pytest.raises(ValueError, match="holds an unfinished build; --resume"):
        IndexWriter(tmp_path, PLAN, resume=False, overwrite=False)
    assert len(IndexWriter(tmp_path, PLAN, resume=True, overwrite=False).shards) == 2
    assert IndexWriter(tmp_path, PLAN, resume=False, overwrite=True).shards == []


def test_a_build_without_a_whole_shard_asks_nothing(tmp_path):
    _begin(tmp_path, 0)
    other = replace(PLAN, corpus="another")
    for plan, resume in ((PLAN, False), (PLAN, True), (other, False), (other, True)):
        assert IndexWriter(tmp_path, plan, resume=resume, overwrite=False).shards == []
    (tmp_path / BUILDING / "plan.json").rename(tmp_path / BUILDING / "plan.json.unfinished")
    assert IndexWriter(tmp_path, PLAN, resume=True, overwrite=False).shards == []


def test_a_whole_index_is_replaced_only_when_told(tmp_path):
    write_index(tmp_path, VECTORS)
    with pytest.raises(ValueError, match="already holds an index; --overwrite replaces it"):
        IndexWriter(tmp_path, PLAN, resume=False, overwrite=False)
    other = replace(PLAN, corpus="another")
    with pytest.raises(ValueError, match=r"the index in .* had another corpus; repeat its options"):
        IndexWriter(tmp_path, other, resume=True, overwrite=False)


def test_resuming_a_whole_index_leaves_it_as_it_is(tmp_path):
    write_index(tmp_path, VECTORS)
    before = _files(tmp_path)
    writer = IndexWriter(tmp_path, PLAN, resume=True, overwrite=False)
    assert all(writer.already_written(n, _shard(n)[0]) for n in range(ROWS // SHARD))
    assert _publish(writer) == writer.finished == DenseIndex.open(tmp_path).manifest
    assert _files(tmp_path) == before


def test_resuming_a_whole_index_of_other_passages_is_refused(tmp_path):
    write_index(tmp_path, VECTORS)
    changed = r"the corpus has changed since the index in .* was built \(shard {} differs\)"
    writer = IndexWriter(tmp_path, PLAN, resume=True, overwrite=False)
    with pytest.raises(ValueError, match=changed.format(0)):
        writer.already_written(0, _shard(1)[0])
    with pytest.raises(ValueError, match=changed.format(0)):
        _publish(writer)  # fewer than there were
    with pytest.raises(ValueError, match=changed.format(5)):
        writer.already_written(5, _shard(0)[0])  # more
    (tmp_path / "data-0001" / "vectors-00001.arrow").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"is damaged \(vectors-00001.arrow\); --overwrite"):
        IndexWriter(tmp_path, PLAN, resume=True, overwrite=False)


def test_the_old_index_stays_whole_until_the_new_one_is_published(tmp_path):
    write_index(tmp_path, VECTORS[:200])
    with only_writer(tmp_path):
        writer = IndexWriter(tmp_path, PLAN, resume=False, overwrite=True)
        before = DenseIndex.open(tmp_path)
        for number in range(ROWS // SHARD):
            writer.add_shard(*_shard(number), truncated=0)
        assert len(DenseIndex.open(tmp_path)) == 200
        _publish(writer)
    after = DenseIndex.open(tmp_path)
    assert len(after) == ROWS
    assert after.search(VECTORS[300:301], 1)[0][0].id == "p0300"
    # A searcher that had the old one open goes on with it.
    assert before.search(VECTORS[7:8], 1)[0][0].id == "p0007"
    assert before.passages(["p0150"]) == [TEXTS[150]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        "data-0002",
        "manifest.json",
    ]


def test_an_empty_corpus_is_refused(tmp_path):
    writer = IndexWriter(tmp_path, PLAN, resume=False, overwrite=False)
    with pytest.raises(ValueError, match="the corpus 'made' has no passages"):
        _publish(writer)
    assert list(tmp_path.iterdir()) == []
