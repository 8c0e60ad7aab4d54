"""The manifest of an index: what is in it, and who made it.

Enters: `manifest.json`. Leaves: a `Manifest`, checked. The file is the index's commit point:
whatever it names is whole, and nothing else in the folder counts. Every name in it follows from
its number, so that a manifest by a stranger leads nowhere else.

    Manifest.read(Path("my-index")).passages
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from index.files import write_atomic
from index.plan import DATA, Plan, unfinished_build
from index.schema import check_digests, check_ranges, from_json, read_json

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
FAISS_FILE = "vectors.faiss"
METRIC = "inner_product"
_MOST_ROWS = 2**40


@dataclass(frozen=True)
class EncoderRecord:
    """The encoder that made the vectors, well enough to refuse another one."""

    name: str
    fingerprint: str
    dimension: int
    max_length: int
    pooling: str
    query_prompt: str
    passage_prompt: str

    def __post_init__(self) -> None:
        check_ranges(self, dimension=(1, 65_536), max_length=(0, math.inf))


@dataclass(frozen=True)
class ShardRecord:
    """One checkpoint of the build: two files of `rows` passages, and their digests."""

    vectors: str
    passages: str
    rows: int
    truncated: int
    vectors_sha256: str
    passages_sha256: str

    def __post_init__(self) -> None:
        check_ranges(self, rows=(1, _MOST_ROWS))
        check_ranges(self, truncated=(0, self.rows))
        check_digests(self, "vectors_sha256", "passages_sha256")

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each of the two files, by name."""
        return {self.vectors: self.vectors_sha256, self.passages: self.passages_sha256}


def shard_files(number: int) -> tuple[str, str]:
    """The names of the vectors and of the passages of shard `number`."""
    return f"vectors-{number:05d}.arrow", f"passages-{number:05d}.parquet"


@dataclass(frozen=True)
class Manifest:
    """Everything that is known about an index besides its vectors and texts.

    `data` is the folder, beside the manifest, that holds every file named here.
    `recall_at_10` compares the FAISS index with exact search on a sample of `recall_queries`.
    """

    corpus: str
    encoder: EncoderRecord
    metric: str
    faiss_factory: str
    faiss_sha256: str
    passages: int
    truncated: int
    skipped: int
    recall_at_10: float
    recall_queries: int
    shards: tuple[ShardRecord, ...]
    settings: dict[str, Any]
    created_by: dict[str, str]
    data: str
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.metric != METRIC:
            raise ValueError(f"metric is {self.metric!r}, wanted {METRIC!r}")
        check_digests(self, "faiss_sha256")
        check_ranges(self, passages=(1, _MOST_ROWS), skipped=(0, math.inf))
        check_ranges(self, recall_at_10=(0, 1), recall_queries=(1, self.passages))
        if not DATA.fullmatch(self.data):
            raise ValueError(f"data is {self.data!r:.80}, wanted data- and a number")
        for number, shard in enumerate(self.shards):
            if (shard.vectors, shard.passages) != shard_files(number):
                raise ValueError(f"shards[{number}] has the files of another shard")
        for name, counted in (
            ("passages", sum(shard.rows for shard in self.shards)),
            ("truncated", sum(shard.truncated for shard in self.shards)),
        ):
            if getattr(self, name) != counted:
                raise ValueError(f"{name} is {getattr(self, name)}, its shards have {counted}")

    @property
    def plan(self) -> Plan:
        """The plan of the build that made it."""
        return Plan(self.corpus, self.encoder.fingerprint, self.settings)

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each file in the folder `data`, by name."""
        found = {FAISS_FILE: self.faiss_sha256}
        for shard in self.shards:
            found |= shard.digests
        return found

    def write(self, folder: Path) -> None:
        """Make this the index in `folder`, by one rename."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        write_atomic(folder / MANIFEST, lambda file: file.write(text.encode("utf-8")))

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of the index in `folder`.

        Raises `ValueError` when `folder` is no index, or one this version cannot read.
        """
        if not folder.exists():
            raise ValueError(f"{folder} does not exist; build an index there first")
        if (folder / MANIFEST).is_file():
            return cls.read_file(folder / MANIFEST)
        if unfinished_build(folder):
            raise ValueError(
                f"the index in {folder} is unfinished: its build was interrupted; repeat the "
                f"build with --resume"
            )
        raise ValueError(f"{folder} is no index: it has no {MANIFEST}; name the folder of --out")

    @classmethod
    def read_file(cls, path: Path) -> "Manifest":
        """Read a manifest from the file `path`; raises `ValueError` as `read`."""
        try:
            values = read_json(path)
            version = values.get("format_version") if isinstance(values, dict) else None
            if isinstance(values, dict) and version != FORMAT_VERSION:
                raise ValueError(f"it has format {version}, this version reads {FORMAT_VERSION}")
            return from_json(cls, values)
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged or another program's ({error}); build the index again in "
                f"another folder"
            ) from None
