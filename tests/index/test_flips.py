"""Bits flipped and ends cut in every file of an index, both legs and all tables among them."""

import random
import shutil

import pytest
from index_cases import change_index, dated, passages, unit_vectors, write_index

from index.dense_index import DenseIndex
from index.manifest.manifest import MANIFEST
from index.verify import verify

pytestmark = pytest.mark.slow

ROWS, FLIPS, CUTS = 400, 12, 4
TEXTS, VECTORS = dated(passages(ROWS)), unit_vectors(ROWS)


@pytest.fixture(scope="module", params=["Flat", "HNSW16,Flat", "IVF8,PQ16x4fs"])
def whole(request, tmp_path_factory):
    """Two segments with words, metadata and deletions."""
    folder = tmp_path_factory.mktemp("whole") / "index"
    write_index(folder, VECTORS[:300], texts=TEXTS[:300], factory=request.param, lexical="plain")
    change_index(folder, TEXTS[300:], VECTORS[300:], deleted=["p0001", "p0007"], factory="Flat")
    return folder


def _answers(index):
    found = index.search(VECTORS[::40], 10), index.search(VECTORS[:3], 10, "year >= 2100")
    words = index.search_words(["text 7", "title 33"], 10)
    hits = [hit.id for hits in (*found[0], *found[1], *words) for hit in hits]
    return found, words, index.passages(hits), index.cosines(VECTORS[0], hits)


def _damaged(content, generator):
    """The content with one bit flipped, or cut short, in as many ways."""
    for _ in range(FLIPS):
        place = generator.randrange(len(content))
        yield (
            content[:place]
            + bytes([content[place] ^ 1 << generator.randrange(8)])
            + content[place + 1 :]
        )
    for _ in range(CUTS):
        yield content[: generator.randrange(len(content))]


def test_damage_is_found_and_ends_in_a_sentence(whole, tmp_path):
    answers = _answers(DenseIndex.open(whole, verify=True))
    assert verify(whole).faults == []
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.stat().st_size)
    files = [name for name in files if (whole / name).is_file()]
    kinds = {name.name.partition("-")[0].partition(".")[0] + name.suffix for name in files}
    assert {"manifest.json", "vectors.arrow", "vectors.faiss", "passages.parquet"} < kinds
    assert {"ids.arrow", "id.arrow", "metadata.arrow", "deleted.bits", "lexical.term"} < kinds
    silent, told = [], 0
    for name in files:
        folder = shutil.copytree(whole, tmp_path / "index")
        content = (folder / name).read_bytes()
        for damaged in _damaged(content, random.Random(str(name))):
            (folder / name).write_bytes(damaged)
            if name.name == MANIFEST:
                with pytest.raises(ValueError, match="manifest"):
                    DenseIndex.open(folder)
                continue
            assert verify(folder).faults, name
            with pytest.raises(ValueError, match="damaged"):
                DenseIndex.open(folder, verify=True)
            try:
                found = _answers(DenseIndex.open(folder))
            except ValueError:
                told += 1
            else:
                silent += [name.name] * (str(found) != str(answers))
        shutil.rmtree(folder)
    assert told
    # What no table checks against another, and only a digest tells: docs/index.md says so.
    assert {name.partition("-")[0].partition(".")[0] for name in silent} <= {"vectors", "lexical"}
