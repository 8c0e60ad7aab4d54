"""A passage cache on disk: shards, an instruction, and a manifest that makes it whole.

Enters: shards, one after the other. Leaves: a folder of

    manifest.json             what made it, counts, and a sha256 a file; written last
    instruction.safetensors   the states of the instruction, which all passages share
    shard-00000.safetensors   passages in order, memory-mapped when read; the checkpoint unit

Every file appears by rename. A folder of shards without a manifest is a build that was killed.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from configs.files import replacing
from configs.formats.lines import parse_json
from configs.settings import make_settings
from rerank.cache.identity import CacheIdentity
from rerank.cache.shard import CacheShard, check_shard

MANIFEST = "manifest.json"
INSTRUCTION = "instruction.safetensors"
FORMAT = "blockseek passage cache"
VERSION = 2
# safetensors keeps its metadata in no order of ours: one entry has one order.
_METADATA = "blockseek"
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class FileRecord:
    """A file of the cache; `passages` and `tokens` are what it holds of them."""

    file: str
    bytes: int
    sha256: str
    passages: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        if min(self.bytes, self.passages, self.tokens) < 0:
            raise ValueError(f"{self.file} has fewer bytes, passages or tokens than none")
        if not _DIGEST.fullmatch(self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r:.80}, wanted 64 hexadecimal digits")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds; every file's name follows from its place."""

    identity: CacheIdentity
    passages: int
    tokens: int
    instruction: FileRecord
    shards: tuple[FileRecord, ...]
    versions: Mapping[str, str]
    format: str = FORMAT
    version: int = VERSION

    def __post_init__(self) -> None:
        files = [INSTRUCTION, *(shard_name(number) for number in range(len(self.shards)))]
        for name, record in zip(files, (self.instruction, *self.shards), strict=True):
            if record.file != name:
                raise ValueError(f"{record.file!r:.80} stands in the place of {name}")
        for name in ("passages", "tokens"):
            counted = sum(getattr(record, name) for record in self.shards)
            if getattr(self, name) != counted or counted < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, its shards have {counted}")

    @property
    def num_bytes(self) -> int:
        """What all files but the manifest take."""
        return self.instruction.bytes + sum(record.bytes for record in self.shards)


def shard_name(number: int) -> str:
    """What the file of shard `number` is called."""
    return f"shard-{number:05d}.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], identity: CacheIdentity) -> None:
    """Write tensors that remember what made them."""
    metadata = {_METADATA: json.dumps(dataclasses.asdict(identity), sort_keys=True)}
    contents = save({name: x.contiguous() for name, x in tensors.items()}, metadata)
    with replacing(path) as file:
        file.write(contents)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, mapped: they cost no memory until they are touched."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; build the cache again") from None
    except SafetensorError as error:
        raise ValueError(f"{path} is broken ({error}); build the cache again") from None


def read_shard(path: Path, identity: CacheIdentity) -> CacheShard:
    """The shard in a file; raises `ValueError` when it is missing, broken or of other shapes."""
    tensors = read_tensors(path)
    try:
        shard = CacheShard.from_tensors(tensors)
        check_shard(shard, identity)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no shard of this passage cache ({error})") from None
    return shard


def read_files(
    folder: Path, manifest: Manifest
) -> tuple[list[CacheShard], dict[str, torch.Tensor]]:
    """All shards and the instruction's states, mapped; nothing but headers and ids is read.

    Raises `ValueError` for a file that is not what the manifest promises.
    """
    for record in (manifest.instruction, *manifest.shards):
        check_size(folder, record)
    shards = [read_shard(folder / record.file, manifest.identity) for record in manifest.shards]
    for record, shard in zip(manifest.shards, shards, strict=True):
        if (record.passages, record.tokens) != (len(shard.ids), len(shard.key_mask)):
            raise ValueError(f"{folder / record.file} holds other counts than {MANIFEST} says")
    ids = [id_ for shard in shards for id_ in shard.ids]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{folder} holds an id twice; build the cache again")
    instruction = read_tensors(folder / INSTRUCTION)
    shapes = {name: (x.dtype, *x.shape[1:]) for name, x in instruction.items()}
    tokens = manifest.identity.tokens
    wanted = {name: (torch.float32, *sizes) for name, (*sizes, _) in tokens.items()}
    if shapes != wanted or len({len(x) for x in instruction.values()}) > 1:
        raise ValueError(f"{folder / INSTRUCTION} holds other states than {MANIFEST} says")
    return shards, instruction


def made_with(path: Path) -> Mapping[str, Any]:
    """The identity that a file was written with, as JSON."""
    try:
        with safe_open(path, "pt") as file:
            found: dict[str, Any] = json.loads((file.metadata() or {})[_METADATA])
            return found
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no file of a passage cache ({error})") from None


def record_of(path: Path, passages: int = 0, tokens: int = 0) -> FileRecord:
    """A file's record, checksum included."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(path.name, path.stat().st_size, digest, passages, tokens)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the file that makes the cache whole."""
    with replacing(folder / MANIFEST) as file:
        file.write(json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False).encode())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a whole cache; raises `ValueError` when there is none that can be read."""
    path = folder / MANIFEST
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        unfinished = (folder / shard_name(0)).exists()
        state = "an unfinished build: run it again" if unfinished else "no passage cache"
        raise ValueError(f"{folder} holds {state} ({MANIFEST} is missing)") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"{path} is no manifest of a passage cache")
    if values.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {values.get('version')}, this program reads {VERSION}: build the "
            f"cache again"
        )
    try:
        return make_settings(Manifest, values, MANIFEST)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); build the cache again") from None


def verify(folder: Path) -> Manifest:
    """Recompute every checksum; raises `ValueError` naming the first file that has changed."""
    manifest = read_manifest(folder)
    for record in (manifest.instruction, *manifest.shards):
        check_size(folder, record)
        if record_of(folder / record.file).sha256 != record.sha256:
            raise ValueError(
                f"{folder / record.file} is broken: its checksum is not the manifest's; build the "
                f"cache again"
            )
    return manifest


def check_size(folder: Path, record: FileRecord) -> None:
    """Raise `ValueError` when a file is missing, leads elsewhere or has not its record's size."""
    path = folder / record.file
    if not path.is_file():
        raise ValueError(f"{path} is missing; build the cache again")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path} is a link that leads out of the cache")
    if path.stat().st_size != record.bytes:
        raise ValueError(
            f"{path} is broken: it has {path.stat().st_size} bytes, the manifest says "
            f"{record.bytes}; build the cache again"
        )
