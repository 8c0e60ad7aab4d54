"""What is known of an index in Milvus: `milvus.json` in the index's folder.

Enters: that file. Leaves: where the collection is, who made its vectors, what was put in. No
secret: a token comes from the environment, and a URI that carries one is refused.

    MilvusManifest.read(Path("my-index")).collection
"""

import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from index.disk.files import write_atomic
from index.disk.schema import check_ranges, from_json, read_json
from index.manifest.manifest import EncoderRecord

MILVUS_FILE = "milvus.json"
FORMAT_VERSION = 1
_COLLECTION = re.compile(r"[A-Za-z_]\w{0,200}", re.ASCII)
# By name, and whether Milvus Lite builds it. What it does not know it would leave to comparing with
# every vector, without a word.
INDEX_TYPES = {
    "FLAT": True,
    "HNSW": True,
    "IVF_FLAT": True,
    "IVF_SQ8": True,
    "IVF_PQ": False,
    "IVF_RABITQ": False,
    "SCANN": False,
    "DISKANN": False,
}


@dataclass(frozen=True)
class MilvusTarget:
    """Where a build puts its passages: a server's URI or a file of Milvus Lite, and the index type.

    A file that is no absolute path lies in the folder of the index.
    """

    uri: str = "milvus.db"
    index_type: str = "HNSW"

    def __post_init__(self) -> None:
        if not self.is_lite and "://" not in self.uri:
            raise ValueError(
                f"uri is {self.uri!r}, wanted http://HOST:PORT or a file of Milvus Lite: NAME.db"
            )
        if "@" in self.uri:
            raise ValueError(
                "uri holds a user or a password, which would be written into the index: put "
                "user:password or a token into MILVUS_TOKEN"
            )
        known = [name for name, lite in INDEX_TYPES.items() if lite or not self.is_lite]
        if self.index_type not in known:
            where = "Milvus Lite builds" if self.is_lite else "Milvus builds"
            raise ValueError(f"index_type is {self.index_type!r}; {where} {', '.join(known)}")

    @property
    def is_lite(self) -> bool:
        """Whether it is a file of Milvus Lite."""
        return "://" not in self.uri and self.uri.endswith(".db")

    def address(self, folder: Path) -> str:
        """What pymilvus connects to, for the index in `folder`."""
        return str(folder.resolve() / self.uri) if self.is_lite else self.uri


@dataclass(frozen=True)
class MilvusManifest:
    """Everything that is known about an index in Milvus besides its vectors and texts.

    `passages` counts as of the last build or change by us. `truncated` and `skipped` add up over
    all that was read.
    """

    corpus: str
    target: MilvusTarget
    collection: str
    encoder: EncoderRecord
    passages: int
    truncated: int
    skipped: int
    settings: dict[str, Any]
    created_by: dict[str, str]
    changes: int = 0
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check_ranges(
            self,
            passages=(0, math.inf),
            truncated=(0, math.inf),
            skipped=(0, math.inf),
            changes=(0, math.inf),
        )
        if not _COLLECTION.fullmatch(self.collection):
            raise ValueError(f"collection is {self.collection!r:.80}, wanted a name of Milvus")
        if self.format_version != FORMAT_VERSION:
            raise ValueError(f"it has format {self.format_version}, this version reads 1")

    def write(self, folder: Path) -> None:
        """Make this what is known of the index in `folder`, by one rename."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        write_atomic(folder / MILVUS_FILE, lambda file: file.write(text.encode("utf-8")))

    # What an index of files has besides.
    segments = ()
    columns = ()
    deleted = 0

    @classmethod
    def read(cls, folder: Path) -> "MilvusManifest":
        """Read it; raises `ValueError` when it is damaged."""
        path = folder / MILVUS_FILE
        try:
            return from_json(cls, read_json(path))
        except ValueError as error:
            raise ValueError(f"{path} is damaged or another program's ({error})") from None


def is_in_milvus(folder: Path | str) -> bool:
    """Whether the folder is that of an index in Milvus."""
    return (Path(folder) / MILVUS_FILE).is_file()
