"""A build that is killed at any of its steps: the old index or the new one, and no shard lost."""

import itertools
from dataclasses import replace

import pytest
from index_cases import ENCODER, PLAN, dated, passages, unit_vectors, write_index
from kill_cases import Killed, contents, count_steps

from index.dense_index import DenseIndex
from index.disk.files import only_writer
from index.manifest.manifest import MANIFEST
from index.manifest.plan import BUILDING
from index.writing.writer import IndexWriter

ROWS, SHARD = 6, 3
TEXTS, VECTORS = dated(passages(ROWS)), unit_vectors(ROWS)
OLD = replace(PLAN, corpus="old")


def _build(folder, lexical="off", **how):
    folder.mkdir(exist_ok=True)
    with only_writer(folder):
        writer = IndexWriter(folder, PLAN, **how)
        written = []
        for number in range(ROWS // SHARD):
            part = slice(number * SHARD, (number + 1) * SHARD)
            if not writer.already_written(number, TEXTS[part]):
                writer.add_shard(TEXTS[part], VECTORS[part], truncated=1)
                written.append(number)
        writer.publish(encoder=ENCODER, factory="auto", skipped=2, created_by={}, lexical=lexical)
    return written


def _killed(folder, monkeypatch, step, lexical):
    """What a build did that died before its step `step`; None for one that ended first."""
    with monkeypatch.context() as patched:
        done = count_steps(patched, step)
        try:
            _build(folder, lexical, resume=False, overwrite=True)
        except Killed:
            return done
    return None


@pytest.mark.parametrize(
    ("old_texts", "lexical"),
    [
        (None, "off"),
        (TEXTS[4:], "off"),
        pytest.param(TEXTS[4:], "plain", marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_step_loses_no_shard(tmp_path, monkeypatch, old_texts, lexical):
    def begun(name):
        if old_texts:
            write_index(tmp_path / name, VECTORS[4:], texts=old_texts, plan=OLD)
        return tmp_path / name

    whole = begun("whole")
    _build(whole, lexical, resume=False, overwrite=True)
    old_ids, new_ids = [[text.id for text in texts or ()] for texts in (old_texts, TEXTS)]
    windows = set()
    for step in itertools.count():
        folder = begun(str(step))
        done = _killed(folder, monkeypatch, step, lexical)
        if done is None:
            break
        recorded = sum(f"replace shard-{number:05d}.json.unfinished" in done for number in (0, 1))
        published = f"replace {MANIFEST}.unfinished" in done
        if published or old_texts:
            assert DenseIndex.open(folder).ids == (new_ids if published else old_ids)
        elif recorded:
            with pytest.raises(ValueError, match="was interrupted; repeat the build with --resume"):
                DenseIndex.open(folder)
        windows.add((f"rename {BUILDING}" in done, published))
        # Before its first shard an --overwrite is not begun: the old index is still the one.
        resume = recorded > 0 or not old_texts
        written = _build(folder, lexical, resume=resume, overwrite=not resume)
        assert written == [0, 1][recorded:]
        assert contents(folder) == contents(whole), done
    assert windows == {(False, False), (True, False), (True, True)}
