"""The manifest of an index: what is in it, and who made it.

Enters: `manifest.json`. Leaves: a `Manifest`, checked. The file is the index's commit point:
whatever it names is whole, and nothing else in the folder counts.

    Manifest.read(Path("my-index")).passages
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from index.files import write_atomic

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


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


@dataclass(frozen=True)
class ShardRecord:
    """One checkpoint of the build: two files of `rows` passages, and their digests."""

    vectors: str
    passages: str
    rows: int
    truncated: int
    vectors_sha256: str
    passages_sha256: str


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

    def write(self, folder: Path) -> None:
        """Make this the index in `folder`, by one rename."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        write_atomic(folder / MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of the index in `folder`.

        Raises `ValueError` when `folder` is no index, or one this version cannot read.
        """
        path = folder / MANIFEST
        if not folder.exists():
            raise ValueError(f"{folder} does not exist; build an index there first")
        if not path.is_file():
            raise ValueError(
                f"{folder} is no index: it has no {MANIFEST}; name the folder of --out"
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            version = values["format_version"]
            if version != FORMAT_VERSION:
                raise ValueError(
                    f"{path} has format {version}, this version reads {FORMAT_VERSION}; "
                    f"build the index again"
                )
            values["encoder"] = EncoderRecord(**values["encoder"])
            values["shards"] = tuple(ShardRecord(**shard) for shard in values["shards"])
            return cls(**values)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); build the index again") from None
