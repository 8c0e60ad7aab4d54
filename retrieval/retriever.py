"""Search an index with text.

Enters: the folder of an index, queries. Leaves: hits, and the passages they name.

    Retriever.open("my-index").search(["how to open a file"], k=10)
"""

from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import numpy as np

from configs.formats.checks import check_count, check_queries
from index.manifest.manifest import EncoderRecord
from index.records import Hit, Passage
from index.store.metadata import Where
from retrieval.adapter.filters import RelevanceFilter, load_filter, threshold_filter
from retrieval.backend import SearchableIndex, open_index
from retrieval.chunks import document_of
from retrieval.encoder import FLOAT32, Encoder
from retrieval.grouping import check_group, deep_legs, grouped, merged_whole
from retrieval.legs import DENSE, Legs, Search, keep_relevant

FILTER_FOLDER = "filter"
_QUERIES_PER_BATCH = 256


class Retriever:
    """An open index and the encoder that made it."""

    def __init__(self, index: SearchableIndex, encoder: Encoder) -> None:
        self.index = index
        self.encoder = encoder

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        encoder: str | Encoder | None = None,
        device: str | None = None,
        verify: bool = False,
    ) -> "Retriever":
        """Open the index in `folder` with its own encoder, or check that `encoder` is that one.

        With `verify` every file is first compared with its digest. Raises `ValueError` when
        `folder` is no index, or the encoder is another one, another revision of it, or reads
        another length.
        """
        index = open_index(folder, verify=verify)
        made_by = index.manifest.encoder
        return cls(index, same_encoder(folder, made_by, encoder, device=device))

    @property
    def encoder_fingerprint(self) -> str:
        """What a filter fitted on this encoder's scores is bound to."""
        return self.encoder.record.fingerprint

    @property
    def is_of_chunks(self) -> bool:
        """Whether its passages are chunks of documents (`build --chunk`)."""
        return self.index.manifest.settings.get("chunk") is not None

    def document_of(self, id_: str) -> str:
        """The document of the passage with that id: the passage itself where it is no chunk."""
        return document_of(id_) if self.is_of_chunks else id_

    @property
    def documents(self) -> Container[str]:
        """What may be judged: the ids of documents, or of passages where none were cut."""
        return set(map(document_of, self.index.ids)) if self.is_of_chunks else self.index

    def encode_queries(self, queries: Iterable[str]) -> np.ndarray:
        """Unit query vectors, float32 [n, d]."""
        return self.encoder.encode_queries(queries)

    def open_filter(self, name: str) -> RelevanceFilter:
        """A filter for this index's hits: a cosine, `index` for the one beside it, or a folder.

        Raises `ValueError` for a filter of another encoder, `FileNotFoundError` where none is.
        """
        try:
            cosine = float(name)
        except ValueError:
            folder = self.index.folder / FILTER_FOLDER if name == "index" else Path(name)
            return load_filter(folder, self.encoder_fingerprint)
        return threshold_filter(cosine)

    def search(
        self,
        queries: str | Iterable[str],
        k: int = 10,
        relevance_filter: RelevanceFilter | None = None,
        *,
        where: Where | None = None,
        mode: str = DENSE,
        dense_weight: float | None = None,
        group: str | None = None,
    ) -> list[list[Hit]]:
        """The `k` best hits of each query, best first; one string counts as one query.

        `mode` is dense (scores are cosines; every passage when `k` is larger than the corpus),
        lexical (BM25; passages that share a word with the query) or hybrid, the fusion of both: of
        reciprocal ranks, or of scores with `dense_weight` (see `Search`).

        Only passages that the condition `where` keeps are searched: a text such as "year >= 2020",
        or a pyarrow expression. With a filter, those of them that it keeps by their cosines, maybe
        none. With `group` hits are documents, by their best chunk (`best`) or the sum of their best
        three (`sum3`), and `k` counts these; what that sees is said in `retrieval.grouping`. Where
        the index is not one of chunks, each passage is a document.

        Raises `TypeError` or `ValueError` for what is no query, for a `k` that is no whole number
        from 1, for a search for words in an index that has none, and as `DenseIndex.where`.
        """
        search = Search(mode, dense_weight)
        if group is not None:
            check_group(group)
        asked = check_queries([queries] if isinstance(queries, str) else queries)
        check_count("k", k)
        k = int(k)  # numpy's own among them
        if where is not None:
            self.index.where(where)  # told before anything is encoded
        depth = search.depth(k, relevance_filter)
        hits: list[list[Hit]] = []
        for start in range(0, len(asked), _QUERIES_PER_BATCH):
            batch = asked[start : start + _QUERIES_PER_BATCH]
            vectors = None
            if search.needs_vectors(relevance_filter):
                vectors = self.encode_queries(batch)
            legs = self.legs(search, batch, vectors, k=k, depth=depth, group=group, where=where)
            found = [self.merged(search, each, k, group) for each in legs]
            if relevance_filter is not None and vectors is not None:
                found = keep_relevant(relevance_filter, self.index, vectors, legs, found)
            hits.extend(self.grouped(each, k, group) for each in found)
        return hits

    def legs(
        self,
        search: Search,
        queries: Sequence[str],
        vectors: np.ndarray | None,
        *,
        k: int,
        depth: int,
        group: str | None = None,
        where: Where | None = None,
    ) -> list[Legs]:
        """Each query's legs: `depth` hits, or as many as tell `k` documents of a `group`."""
        if group is None:
            return search.legs(self.index, queries, vectors, depth, where)
        return deep_legs(
            search, self.index, queries, vectors, k, depth, group, self.document_of, where
        )

    def merged(self, search: Search, legs: Legs, k: int, group: str | None = None) -> list[Hit]:
        """The `k` best passages of a query's legs, or all where they are still to be grouped."""
        return search.merged(legs, k) if group is None else merged_whole(search, legs)

    def grouped(self, hits: list[Hit], k: int, group: str | None) -> list[Hit]:
        """The `k` best documents of `hits`; without a `group`, `hits` as they are."""
        return hits if group is None else grouped(hits, k, group, self.document_of)

    def passages(self, hits: Sequence[Hit]) -> list[Passage]:
        """The passages of `hits`, in their order; of a document its best chunk, by its own id."""
        found = self.index.passages([hit.passage_id for hit in hits])
        pairs = zip(hits, found, strict=True)
        return [passage._replace(id=hit.id) if hit.chunk else passage for hit, passage in pairs]


def same_encoder(
    folder: Path | str,
    made_by: EncoderRecord,
    encoder: str | Encoder | None,
    *,
    device: str | None = None,
    batch_size: int = 32,
    dtype: str = FLOAT32,
) -> Encoder:
    """The encoder that made the index in `folder`, loaded, or `encoder` where it is that one.

    Raises `ValueError` for another one, another revision of it, or one that reads another length.
    """
    if not isinstance(encoder, Encoder):
        encoder = Encoder.load(
            encoder or made_by.name,
            device=device,
            max_length=made_by.max_length or None,
            batch_size=batch_size,
            dtype=dtype,
        )
    if encoder.record.fingerprint != made_by.fingerprint:
        same_name = encoder.record.name == made_by.name
        what = "another revision or setting of it" if same_name else repr(encoder.record.name)
        raise ValueError(
            f"the index in {folder} was built by encoder {made_by.name!r}, not by {what}; "
            f"take the encoder that built it, or build the index again"
        )
    return encoder
