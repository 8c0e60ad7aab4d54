"""A disk that is full names the file, whoever writes it, and costs no shard."""

import errno

import pytest
from index_cases import ENCODER, PLAN, passages, unit_vectors
from kill_cases import largest_file

from index.manifest.manifest import Manifest
from index.writing.writer import IndexWriter

ROWS, SHARD = 300, 100


def _build(folder, resume):
    writer = IndexWriter(folder, PLAN, resume=resume, overwrite=False)
    texts, vectors = passages(ROWS), unit_vectors(ROWS)
    for number in range(ROWS // SHARD):
        part = slice(number * SHARD, (number + 1) * SHARD)
        if not writer.already_written(number, texts[part]):
            writer.add_shard(texts[part], vectors[part], truncated=0)
    writer.publish(encoder=ENCODER, factory="Flat", skipped=0, created_by={})


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (50, "building/plan.json"),
        (1_000, "building/passages-00000.parquet"),
        (10_000, "building/vectors-00000.arrow"),
        (20_000, "building/vectors.faiss"),
    ],
)
def test_the_file_is_named_and_the_build_goes_on_later(tmp_path, size, name):
    with largest_file(size), pytest.raises(OSError, match="File too large") as raised:
        _build(tmp_path, resume=False)
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(tmp_path / name))
    assert not (tmp_path / name).exists()
    assert not list(tmp_path.rglob("*.unfinished"))
    _build(tmp_path, resume=True)
    assert Manifest.read(tmp_path).passages == ROWS
