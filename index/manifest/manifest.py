"""The manifest of an index: what is in it, and who made it.

Enters: `manifest.json`. Leaves: a `Manifest`, checked. The file is the index's commit point:
whatever it names is whole, and nothing else in the folder counts. Every name in it follows from
its number, so that a manifest by a stranger leads nowhere else.

    Manifest.read(Path("my-index")).passages
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from index.disk.files import write_atomic
from index.disk.schema import check_ranges, from_json, read_json
from index.manifest.columns import ColumnRecord, check_columns
from index.manifest.formats import DIGEST, FORMAT_VERSION, digest_of, in_this_form
from index.manifest.plan import Plan, unfinished_build
from index.manifest.segments import ScoreShift, SegmentRecord, shift_over
from index.manifest.words import OFF, check_lexical

MANIFEST = "manifest.json"
METRIC = "inner_product"


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
class Manifest:
    """Everything that is known about an index besides its vectors and texts.

    `passages` are live, `deleted` ones lie in the files still. `skipped` counts the bad records of
    every corpus that was read; `truncated` the passages that were longer than the encoder reads,
    maybe deleted since. `changes` counts commits since the build of `corpus` by `settings`, and
    `last_data` is the highest number that a folder of data had, so that no name ever comes again: a
    reader of an older manifest finds its own files or none. `columns` are kept of every passage.
    `lexical` is the analyser of the words that every segment holds, or `off`.
    """

    corpus: str
    encoder: EncoderRecord
    metric: str
    passages: int
    deleted: int
    truncated: int
    skipped: int
    segments: tuple[SegmentRecord, ...]
    last_data: int
    settings: dict[str, Any]
    created_by: dict[str, str]
    changes: int = 0
    columns: tuple[ColumnRecord, ...] = ()
    lexical: str = OFF
    format_version: int = field(default=FORMAT_VERSION, compare=False)

    def __post_init__(self) -> None:
        if self.metric != METRIC:
            raise ValueError(f"metric is {self.metric!r}, wanted {METRIC!r}")
        check_ranges(self, skipped=(0, math.inf), changes=(0, math.inf), last_data=(0, 10**9 - 1))
        check_lexical(self.lexical)
        last = 0
        for number, segment in enumerate(self.segments):
            if bool(segment.words) != (self.lexical != OFF):
                has = "words" if segment.words else "no words"
                raise ValueError(f"segments[{number}] has {has}, lexical is {self.lexical}")
            if not last < segment.number <= self.last_data:
                raise ValueError(
                    f"segments[{number}].data is {segment.data}, wanted one above {last} and up to "
                    f"{self.last_data}"
                )
            if segment.vectors != self.plan.precision:
                raise ValueError(
                    f"segments[{number}].vectors is {segment.vectors}, those of this index are "
                    f"{self.plan.precision}"
                )
            last = segment.number
        for name, count in counted(self.segments).items():
            if getattr(self, name) != count:
                raise ValueError(f"{name} is {getattr(self, name)}, its segments have {count}")
        check_columns(self.columns)
        for shard in (shard for segment in self.segments for shard in segment.shards):
            if bool(shard.metadata_sha256) != bool(self.columns):
                has = "has" if shard.metadata_sha256 else "lacks"
                raise ValueError(
                    f"columns has {len(self.columns)} names, and a shard {has} metadata"
                )

    @property
    def plan(self) -> Plan:
        """The plan of the build that made it."""
        return Plan(self.corpus, self.encoder.fingerprint, self.settings)

    @property
    def recall_at_10(self) -> float:
        """The lowest of the segments: a hit of the whole is a hit of its own segment."""
        return min((segment.recall_at_10 for segment in self.segments), default=1.0)

    @property
    def score_shift(self) -> ScoreShift:
        """How storing the vectors moved scores."""
        return shift_over([(each.passages, each.score_shift) for each in self.segments])

    @property
    def files(self) -> set[tuple[str, str]]:
        """Every file of the index besides the manifest: the folder of data and the name."""
        return {(segment.data, name) for segment in self.segments for name in segment.digests}

    def write(self, folder: Path) -> None:
        """Make this the index in `folder`, by one rename."""
        values = asdict(self) | {"format_version": FORMAT_VERSION}
        values |= {DIGEST: digest_of(values)}
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
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
            values, digest = in_this_form(read_json(path))
            manifest = from_json(cls, values)
            # Last: what is wrong in itself is told more exactly.
            if digest is not None and digest != digest_of(values):
                raise ValueError(f"{DIGEST} is {digest!r:.80}, its content has another")
            return manifest
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged or another program's ({error}); build the index again in "
                f"another folder"
            ) from None


def counted(segments: Sequence[SegmentRecord]) -> dict[str, Any]:
    """The counts of a manifest that follow from its segments, by field."""
    live = sum(segment.live for segment in segments)
    return {
        "passages": live,
        "deleted": sum(segment.passages for segment in segments) - live,
        "truncated": sum(shard.truncated for segment in segments for shard in segment.shards),
    }
