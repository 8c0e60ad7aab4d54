"""Documents as chunks: each a passage of the index, whose id says of which document, and where.

Enters: the documents of a corpus, and what counts tokens. Leaves: their chunks, as passages.

    chunk_of("manual#120-840")  # Chunk("manual", 120, 840)

The id carries it all, so whatever keeps ids keeps documents: hits, words, filters, compaction, Ray,
Milvus. No passage is read to tell a hit's document.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np

from configs.formats.chunks import TokenCounter, chunks
from index.records import Hit, Passage
from retrieval.corpora.reading import Reading

Row = TypeVar("Row")
_ID = re.compile(r"(.+)#(\d+)-(\d+)", re.DOTALL)


class Cut(NamedTuple):
    """Chunks of at most `size` tokens, which begin with `overlap` of the one before."""

    size: int
    overlap: int


class Chunk(NamedTuple):
    """Characters [start, end) of the text of a document."""

    document: str
    start: int
    end: int

    @property
    def id(self) -> str:
        """The id of the passage that is this chunk."""
        return f"{self.document}#{self.start}-{self.end}"


def chunk_of(id_: str) -> Chunk:
    """The chunk whose passage has that id; raises `ValueError` where it is that of no chunk."""
    found = _ID.fullmatch(id_)
    if found is None:
        raise ValueError(f"{id_!r:.80} is no chunk's id, which would end in #START-END")
    return Chunk(found[1], int(found[2]), int(found[3]))


def document_of(id_: str) -> str:
    """The document of the chunk whose passage has that id; raises as `chunk_of`."""
    return chunk_of(id_).document


def place_of(hit: Hit) -> Chunk:
    """The chunk that `hit` found, or that stands for the document it found; as `chunk_of`."""
    return chunk_of(hit.passage_id)


def cut_documents(
    documents: Iterable[Passage], count: TokenCounter, cut: Cut, reading: Reading | None = None
) -> Iterator[Passage]:
    """The chunks of `documents`, by whole sentences (`configs.formats.chunks`), in order.

    Each carries the title and the metadata of its document, and a part of its text as it stands
    there: `document.text[start:end]`. A document of which no chunk has a token (only its title can
    be read, say) is one chunk, whole. `reading` is told how many chunks come of a document.
    """
    made = 0
    for number, document in enumerate(documents, 1):
        text = document.text
        whole = True
        for start, end in chunks(text, count, *cut):
            whole, made = False, made + 1
            yield document._replace(id=Chunk(document.id, start, end).id, text=text[start:end])
        if whole:
            made += 1
            yield document._replace(id=Chunk(document.id, 0, len(text)).id)
        if reading is not None:
            reading.passages_a_record = made / number


def by_document(
    rows: Iterable[tuple[Row, str]], documents: Collection[str]
) -> dict[str, list[Row]]:
    """Of each of `documents` that has any, its chunks among `rows` (a row, the chunk's id)."""
    found: dict[str, list[Row]] = {}
    for row, id_ in rows:
        document = _document(id_)
        if document in documents:
            found.setdefault(document, []).append(row)
    return found


class DocumentRows:
    """The rows of documents' chunks, to be found by a document's name: 16 bytes a chunk."""

    def __init__(self, rows: Iterable[tuple[int, str]]) -> None:
        """Of every chunk its row and its id."""
        pairs = ((row, hash(_document(id_))) for row, id_ in rows)
        table = np.fromiter(chain.from_iterable(pairs), np.int64).reshape(-1, 2)
        order = table[:, 1].argsort()
        self._rows, self._hashes = table[order, 0], table[order, 1]

    def of(self, documents: Sequence[str]) -> np.ndarray:
        """The rows, int64 [n] ascending, of all their chunks; of others with a hash of theirs."""
        hashes = np.array([hash(document) for document in documents], np.int64)
        first, end = (np.searchsorted(self._hashes, hashes, side) for side in ("left", "right"))
        parts = [self._rows[a:b] for a, b in zip(first.tolist(), end.tolist(), strict=True)]
        return np.unique(np.concatenate([np.empty(0, np.int64), *parts]))


def _document(id_: str) -> str:
    """As `document_of` where the id is a chunk's; what that checks takes five times as long."""
    return id_.rpartition("#")[0]
