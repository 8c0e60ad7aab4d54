"""What is asked of GPUs, told by a FAISS that seems to have some. None is needed."""

import faiss
import numpy as np
import pytest
from index_cases import unit_vectors

from index.dense.build import build_faiss
from index.dense.gpu import gpus, stays_on_cpu, to_gpus


class Whole:
    parts = (unit_vectors(300),)

    def __len__(self):
        return 300

    def __getitem__(self, rows):
        return self.parts[0][rows]


@pytest.fixture
def moved(monkeypatch):
    """Every index that was to move to the GPUs: flat ones do, in name, and others can't."""
    asked = []

    def to_all(built):
        asked.append(type(built).__name__)
        if not isinstance(built, faiss.IndexFlat | faiss.IndexIVFFlat):
            raise RuntimeError("this index type is not implemented on GPU")
        return built

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", to_all, raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", lambda built: built, raising=False)
    return asked


def test_without_gpus_nothing_moves(monkeypatch):
    monkeypatch.delattr(faiss, "get_num_gpus", raising=False)
    built = faiss.IndexFlatIP(4)
    assert (gpus(), to_gpus(built)) == (0, built)
    assert not stays_on_cpu("HNSW32,Flat")


@pytest.mark.parametrize(
    ("factory", "asked"),
    [
        ("Flat", ["IndexFlat"]),
        ("IVF4,Flat", ["IndexFlat", "IndexIVFFlat"]),
        ("IVF4,RaBitQ", ["IndexFlat", "IndexIVFRaBitQ"]),
        ("HNSW8,Flat", ["IndexHNSWFlat"]),
    ],
)
def test_what_can_move_does_and_the_rest_is_built_where_it_is(factory, asked, moved):
    built = build_faiss(factory, 32, Whole())
    assert [name.replace("FlatIP", "Flat") for name in moved] == asked
    assert stays_on_cpu(factory) == factory.startswith("HNSW")
    _, rows = built.search(Whole.parts[0][:5], 1)
    assert np.array_equal(rows[:, 0], np.arange(5)) or factory == "IVF4,RaBitQ"
