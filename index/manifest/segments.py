"""What a manifest says of its segments: shards, ids, deleted rows, words, all digests.

Enters: JSON. Leaves: records, checked. Every name follows from a number, or is always the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from index.disk.schema import check_digests, check_ranges
from index.manifest.plan import DATA, FLOAT32, checked_precision, data_number
from index.manifest.words import LexicalPiece, lexical_digests

FAISS_FILE, IDS_FILE, ID_ROWS_FILE = "vectors.faiss", "ids.arrow", "id-rows.arrow"
# What a segment has besides its shards: the last written first, as they may be deleted.
SEGMENT_FILES = (FAISS_FILE, ID_ROWS_FILE, IDS_FILE)
# What recall@10 was measured on: older indexes asked their own vectors, which are easier to find.
OWN_VECTORS, MIXED_VECTORS = "own vectors", "mixed vectors"
_MOST_ROWS = 2**40


class ScoreShift(NamedTuple):
    """By how much storing vectors moved inner products with unit vectors: at most, on average."""

    most: float = 0.0
    mean: float = 0.0


@dataclass(frozen=True)
class ShardRecord:
    """One checkpoint of the build: two files of `rows` passages, and their digests.

    A passage is read with the others of its group of `rows_per_group`. Storing the vectors moved
    inner products by `score_shift_mean` on average and at most by `score_shift_max`. Where fields
    of the passages are kept there is a third file, by its own name.
    """

    vectors: str
    passages: str
    rows: int
    truncated: int
    vectors_sha256: str
    passages_sha256: str
    rows_per_group: int = 256
    score_shift_max: float = 0.0
    score_shift_mean: float = 0.0
    metadata_sha256: str | None = None

    def __post_init__(self) -> None:
        check_ranges(self, rows=(1, _MOST_ROWS), rows_per_group=(1, _MOST_ROWS))
        check_ranges(self, score_shift_max=(0, 2), score_shift_mean=(0, self.score_shift_max))
        check_ranges(self, truncated=(0, self.rows))
        check_digests(self, "vectors_sha256", "passages_sha256")
        if self.metadata_sha256 is not None:
            check_digests(self, "metadata_sha256")

    @property
    def metadata(self) -> str:
        """The name of its file of metadata, if it has one."""
        return self.vectors.replace("vectors", "metadata")

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each of its files, by name."""
        found = {self.vectors: self.vectors_sha256, self.passages: self.passages_sha256}
        return found | ({self.metadata: self.metadata_sha256} if self.metadata_sha256 else {})


def shift_over(parts: Sequence[tuple[int, ScoreShift]]) -> ScoreShift:
    """The shift of some parts together, each given by its rows and its own shift."""
    most = max((shift.most for _, shift in parts), default=0.0)
    rows = sum(number for number, _ in parts)
    mean = sum(number * shift.mean for number, shift in parts) / max(rows, 1)
    return ScoreShift(most, min(most, mean))


def shard_files(number: int) -> tuple[str, str, str]:
    """The names of the vectors, the passages and the metadata of shard `number`."""
    return f"vectors-{number:05d}.arrow", f"passages-{number:05d}.parquet", metadata_file(number)


def metadata_file(number: int) -> str:
    """The name of the metadata of shard `number`."""
    return f"metadata-{number:05d}.arrow"


@dataclass(frozen=True)
class DeletionRecord:
    """Which `rows` of a segment are deleted: its `number`-th such file, counted from 1."""

    number: int
    rows: int
    sha256: str

    def __post_init__(self) -> None:
        check_ranges(self, number=(1, 10**9), rows=(1, _MOST_ROWS))
        check_digests(self, "sha256")

    @property
    def file(self) -> str:
        """The name of its file."""
        return deletions_file(self.number)


def deletions_file(number: int) -> str:
    """The name of a segment's `number`-th file of deleted rows."""
    return f"deleted-{number:05d}.bits"


@dataclass(frozen=True)
class IdsRecord:
    """The digests of the two files of a segment's ids."""

    ids_sha256: str
    rows_sha256: str

    def __post_init__(self) -> None:
        check_digests(self, "ids_sha256", "rows_sha256")

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each of the two files, by name."""
        return {IDS_FILE: self.ids_sha256, ID_ROWS_FILE: self.rows_sha256}


@dataclass(frozen=True)
class SegmentRecord:
    """Passages that were indexed together: shards, one FAISS file, and what is deleted of them.

    `data` is the folder, beside the manifest, that holds every file named here; `passages` counts
    the deleted ones too. `recall_at_10` compares the FAISS index with exact search on
    `recall_queries` vectors, none deleted; `recall_asked` says which. `vectors` says how those are
    stored. Before format 3 there were no `ids`: they are then read off the passages. But for
    `deleted` nothing here ever changes.
    """

    data: str
    faiss_factory: str
    faiss_sha256: str
    passages: int
    recall_at_10: float
    recall_queries: int
    shards: tuple[ShardRecord, ...]
    deleted: DeletionRecord | None = None
    ids: IdsRecord | None = None
    vectors: str = FLOAT32
    words: tuple[LexicalPiece, ...] = ()
    recall_asked: str = OWN_VECTORS

    def __post_init__(self) -> None:
        checked_precision(self.vectors)
        if not DATA.fullmatch(self.data):
            raise ValueError(f"data is {self.data!r:.80}, wanted data- and a number")
        check_digests(self, "faiss_sha256")
        check_ranges(self, passages=(1, _MOST_ROWS))
        check_ranges(self, recall_at_10=(0, 1), recall_queries=(1, self.passages))
        if self.recall_asked not in (known := (OWN_VECTORS, MIXED_VECTORS)):
            raise ValueError(f"recall_asked is {self.recall_asked!r:.80}, wanted one of {known}")
        for number, shard in enumerate(self.shards):
            if (shard.vectors, shard.passages) != shard_files(number)[:2]:
                raise ValueError(f"shards[{number}] has the files of another shard")
        if self.passages != (rows := sum(shard.rows for shard in self.shards)):
            raise ValueError(f"passages is {self.passages}, its shards have {rows}")
        if self.words and self.passages != (rows := sum(piece.rows for piece in self.words)):
            raise ValueError(f"passages is {self.passages}, its pieces of words have {rows}")
        if self.live < 1:
            raise ValueError(f"deleted.rows is {self.passages - self.live} of {self.passages}")

    @property
    def number(self) -> int:
        """The number in the name of its folder."""
        return data_number(self.data)

    @property
    def live(self) -> int:
        """How many of its passages are not deleted."""
        return self.passages - (self.deleted.rows if self.deleted else 0)

    @property
    def next_deletions(self) -> int:
        """The number of the file that the next change of what is deleted writes."""
        return self.deleted.number + 1 if self.deleted else 1

    @property
    def score_shift(self) -> ScoreShift:
        """How storing its vectors moved scores."""
        return shift_over(
            [
                (shard.rows, ScoreShift(shard.score_shift_max, shard.score_shift_mean))
                for shard in self.shards
            ]
        )

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each file in the folder `data`, by name."""
        found = {FAISS_FILE: self.faiss_sha256} | lexical_digests(self.words)
        if self.ids:
            found |= self.ids.digests
        for shard in self.shards:
            found.update(shard.digests)
        return found | ({self.deleted.file: self.deleted.sha256} if self.deleted else {})
