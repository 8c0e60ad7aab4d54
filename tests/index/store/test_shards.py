import numpy as np
import pytest
from index_cases import DIMENSION, passages, unit_vectors

from index.records import Passage
from index.store.shards import ROWS_PER_GROUP, PassageStore, VectorTable, read_passages, write_shard

ROWS = 2 * ROWS_PER_GROUP + 7


@pytest.fixture
def two_shards(tmp_path):
    texts, vectors = passages(ROWS + 3), unit_vectors(ROWS + 3)
    shards = [
        write_shard(tmp_path, 0, texts[:ROWS], vectors[:ROWS], truncated=4),
        write_shard(tmp_path, 1, texts[ROWS:], vectors[ROWS:], truncated=0),
    ]
    return tmp_path, texts, vectors, shards


def test_what_is_written_is_read_back(two_shards):
    folder, texts, vectors, shards = two_shards
    assert [(shard.rows, shard.truncated) for shard in shards] == [(ROWS, 4), (3, 0)]
    assert read_passages(folder, shards[0]) == texts[:ROWS]
    table = VectorTable(folder, shards, DIMENSION)
    assert len(table) == ROWS + 3
    np.testing.assert_array_equal(np.concatenate(table.parts), vectors)


def test_rows_in_any_order_and_across_shards(two_shards):
    folder, texts, vectors, shards = two_shards
    rows = np.array([ROWS, 0, ROWS - 1, ROWS + 2, 0, ROWS_PER_GROUP])
    np.testing.assert_array_equal(VectorTable(folder, shards, DIMENSION)[rows], vectors[rows])
    store = PassageStore(folder, shards)
    assert [store[row] for row in rows] == [texts[row] for row in rows]
    assert list(store) == texts
    ids = [id_ for chunk in store.id_chunks() for id_ in chunk.to_pylist()]
    assert ids == [text.id for text in texts]
    assert len(store) == len(texts)


def test_rows_outside_the_store_are_refused(two_shards):
    folder, texts, _, shards = two_shards
    store = PassageStore(folder, shards)
    for row in (-1, len(texts)):
        with pytest.raises(IndexError, match=f"of {ROWS + 3}"):
            store[row]


def test_any_text_survives(tmp_path):
    texts = [
        Passage("ключ\t1", "", "line one\nline two\u2028\u0000end"),
        Passage(" id with spaces ", "😀 title", ""),
    ]
    shard = write_shard(tmp_path, 0, texts, unit_vectors(2), truncated=0)
    assert list(PassageStore(tmp_path, [shard])) == texts


def test_the_same_rows_give_the_same_bytes(tmp_path):
    written = []
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        written.append(write_shard(tmp_path / name, 0, passages(9), unit_vectors(9), truncated=0))
    assert written[0] == written[1]


def test_nothing_unfinished_is_left(two_shards):
    folder, _, _, shards = two_shards
    names = {name for shard in shards for name in (shard.vectors, shard.passages)}
    assert {path.name for path in folder.iterdir()} == names
