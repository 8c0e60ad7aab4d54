"""Where an index lies: in files here, or in Milvus. Whoever searches need not know.

open_index("my-index").search(vectors, k=10)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from index.dense_index import DenseIndex
from index.manifest.manifest import EncoderRecord
from index.records import Hit, Passage
from index.store.metadata import Where
from retrieval.milvus.manifest import is_in_milvus


class IndexManifest(Protocol):
    """What is known of any index."""

    @property
    def corpus(self) -> str:
        """The corpus that it was built of."""
        ...

    @property
    def encoder(self) -> EncoderRecord:
        """The encoder that made its vectors."""
        ...

    @property
    def passages(self) -> int:
        """How many passages it holds."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """How it was built."""
        ...

    @property
    def truncated(self) -> int:
        """How many passages were longer than the encoder reads."""
        ...


class SearchableIndex(Protocol):
    """An open index, as a `Retriever` asks it."""

    @property
    def folder(self) -> Path:
        """Its folder."""
        ...

    @property
    def manifest(self) -> IndexManifest:
        """What is known of it."""
        ...

    @property
    def ids(self) -> list[str]:
        """The id of every passage."""
        ...

    @property
    def has_words(self) -> bool:
        """Whether it has a lexical leg."""
        ...

    @property
    def columns(self) -> list[str]:
        """The names of the fields that a condition may ask for."""
        ...

    def __len__(self) -> int: ...
    def __contains__(self, id_: object) -> bool: ...

    def search(self, queries: np.ndarray, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The `k` best hits for each row of `queries`, float32 [q, d], best first."""
        ...

    def search_words(
        self, queries: Sequence[str], k: int, where: Where | None = None
    ) -> list[list[Hit]]:
        """The `k` best hits of each query by its words, best first."""
        ...

    def where(self, where: Where) -> Sequence[np.ndarray]:
        """Which rows a condition on metadata keeps; raises `ValueError` where there is none."""
        ...

    def cosines(self, query: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """The exact cosine, float32 [n], of a unit vector [d] with each of the passages `ids`."""
        ...

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with those ids, in that order."""
        ...


def open_index(folder: Path | str, *, verify: bool = False) -> SearchableIndex:
    """Open the index in `folder`, wherever its vectors are; raises `ValueError` for none.

    With `verify` its files are compared with their digests; one in Milvus has none, and is refused.
    """
    if is_in_milvus(folder):
        if verify:
            raise ValueError(f"the index in {folder} lies in Milvus, which has no files to verify")
        from retrieval.milvus.index import MilvusIndex

        return MilvusIndex.open(folder)
    return DenseIndex.open(folder, verify=verify)
