"""GPUs, where FAISS was built for them (`faiss-gpu`) and finds some; else nothing changes.

Enters: an index in the memory of the CPU. Leaves: the same on the GPUs, or back.
"""

import contextlib

import faiss

from index.dense.kinds import has_graph


def gpus() -> int:
    """How many GPUs this FAISS can use."""
    return int(getattr(faiss, "get_num_gpus", lambda: 0)())


def stays_on_cpu(factory: str) -> bool:
    """Whether there are GPUs and an index of that kind can't be built on them: a graph."""
    return gpus() > 0 and has_graph(factory)


def to_gpus(built: faiss.Index) -> faiss.Index:
    """The index on all GPUs; itself where there are none, or none can hold that kind."""
    if gpus():
        # Graphs, fast-scan and RaBitQ have no counterpart there, and FAISS says so.
        with contextlib.suppress(RuntimeError):
            return faiss.index_cpu_to_all_gpus(built)
    return built


def from_gpus(built: faiss.Index) -> faiss.Index:
    """The index in the memory of the CPU, to be written."""
    return faiss.index_gpu_to_cpu(built) if gpus() else built


def train_on_gpus(inverted: faiss.IndexIVF) -> None:
    """Let the lists' centres, most of the work of training, be found on the GPUs."""
    if gpus():
        inverted.clustering_index = to_gpus(faiss.IndexFlatIP(inverted.d))
