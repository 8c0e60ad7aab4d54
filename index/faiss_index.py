"""The FAISS index over the vectors: the names that the rest of the package needs of it.

Enters: unit vectors, shard by shard. Leaves: row numbers and inner products (= cosines).

faiss_kinds      which kind a corpus gets
faiss_build      how it is trained and filled
faiss_file       how it is written, and mapped when it is read
faiss_search     how it is searched, and what it gives scored again
faiss_selection  how only some rows of it are searched
faiss_gpu        where there are GPUs
"""

from index.faiss_build import build_faiss
from index.faiss_file import read_faiss, write_faiss
from index.faiss_kinds import AUTO, choose_factory
from index.faiss_search import search_faiss
from index.products import inner_products
from index.recall import exact_search, recall_at_10

__all__ = [
    "AUTO", "build_faiss", "choose_factory", "exact_search", "inner_products", "read_faiss",
    "recall_at_10", "search_faiss", "write_faiss",
]  # fmt: skip
