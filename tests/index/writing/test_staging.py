"""Shards that other processes write, until the build takes them over."""

import pickle

import pytest
from index_cases import ENCODER, PLAN, passages, unit_vectors

from index.verify import verify
from index.writing.staging import begin_staging, staging_folders
from index.writing.writer import IndexWriter

PASSAGES, VECTORS = passages(6), unit_vectors(6)


def _writer(folder, **options):
    return IndexWriter(folder, PLAN, **{"resume": False, "overwrite": False, **options})


def _publish(writer):
    return writer.publish(encoder=ENCODER, factory="Flat", skipped=0, created_by={})


def _bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_staged_shards_are_the_shards_that_the_writer_writes(tmp_path):
    plain = _writer(tmp_path / "plain")
    staged = _writer(tmp_path / "staged")
    write = pickle.loads(pickle.dumps(staged.stage()))  # as it travels
    records = [
        write(n, PASSAGES[2 * n : 2 * n + 2], VECTORS[2 * n : 2 * n + 2], 0) for n in (2, 0, 1)
    ]
    for number, record in enumerate(records[1:] + records[:1]):
        plain.add_shard(PASSAGES[2 * number : 2 * number + 2], VECTORS[2 * number :][:2], 0)
        staged.accept(record)
    for writer in (plain, staged):
        _publish(writer)
    assert verify(tmp_path / "staged").faults == []
    assert _bytes(tmp_path / "staged") == _bytes(tmp_path / "plain")


@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}])
def test_what_a_killed_build_staged_is_dropped(tmp_path, options):
    killed = _writer(tmp_path / "index")
    killed.accept(killed.stage()(0, PASSAGES[:3], VECTORS[:3], 0))
    late = killed.stage()
    late(1, PASSAGES[:1], VECTORS[:1], 0)
    writer = _writer(tmp_path / "index", **options)
    assert staging_folders(tmp_path / "index" / "building") == []
    with pytest.raises(FileNotFoundError):  # whoever still writes for it
        late(1, PASSAGES[:1], VECTORS[:1], 0)
    for number, part in enumerate((slice(0, 3), slice(3, 6))):
        if not writer.already_written(number, PASSAGES[part]):
            writer.add_shard(PASSAGES[part], VECTORS[part], 0)
    assert _publish(writer).passages == 6
    assert verify(tmp_path / "index").faults == []


def test_a_file_that_did_not_arrive_whole_is_refused(tmp_path):
    writer = _writer(tmp_path / "index")
    record = writer.stage()(0, PASSAGES, VECTORS, 0)
    (staging,) = staging_folders(tmp_path / "index" / "building")
    content = (staging / record.vectors).read_bytes()
    (staging / record.vectors).write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"vectors-00000\.arrow has changed"):
        writer.accept(record)
    assert writer.shards == []


def test_only_folders_of_that_name_are_ours(tmp_path):
    ours = begin_staging(tmp_path)
    (tmp_path / "staging-12345678").symlink_to(ours)
    (tmp_path / "staging-notes").mkdir()
    (tmp_path / "staging-abcdef01").write_text("a file")
    assert staging_folders(tmp_path) == [ours]
