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
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from rerank.cache_identity import CacheIdentity
from rerank.cache_shard import CacheShard
from rerank.files import replacing

MANIFEST = "manifest.json"
INSTRUCTION = "instruction.safetensors"
FORMAT = "blockseek passage cache"
VERSION = 2
# safetensors keeps its metadata in no order of ours: one entry has one order.
_METADATA = "blockseek"


@dataclasses.dataclass(frozen=True)
class FileRecord:
    """A file of the cache; `passages` and `tokens` are what it holds of them."""

    file: str
    bytes: int
    sha256: str
    passages: int = 0
    tokens: int = 0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds."""

    identity: CacheIdentity
    passages: int
    tokens: int
    instruction: FileRecord
    shards: tuple[FileRecord, ...]
    versions: Mapping[str, str]
    format: str = FORMAT
    version: int = VERSION

    @property
    def num_bytes(self) -> int:
        """What all files but the manifest take."""
        return self.instruction.bytes + sum(record.bytes for record in self.shards)


def shard_path(folder: Path, number: int) -> Path:
    """Where shard `number` lies, or will."""
    return folder / f"shard-{number:05d}.safetensors"


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


def read_shard(path: Path) -> CacheShard:
    """The shard in a file; raises `ValueError` when it is missing or broken."""
    tensors = read_tensors(path)
    try:
        return CacheShard.from_tensors(tensors)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is no shard of a passage cache ({error})") from None


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
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        unfinished = shard_path(folder, 0).exists()
        state = "an unfinished build: run it again" if unfinished else "no passage cache"
        raise ValueError(f"{folder} holds {state} ({MANIFEST} is missing)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"{path} is no manifest of a passage cache")
    if values.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {values.get('version')}, this program reads {VERSION}: build the "
            f"cache again"
        )
    return typing.cast(Manifest, _filled(Manifest, values, path))


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
    """Raise `ValueError` when a file is missing or has another size than its record."""
    path = folder / record.file
    if not path.is_file():
        raise ValueError(f"{path} is missing; build the cache again")
    if path.stat().st_size != record.bytes:
        raise ValueError(
            f"{path} is broken: it has {path.stat().st_size} bytes, the manifest says "
            f"{record.bytes}; build the cache again"
        )


def _filled(kind: type, values: Mapping[str, Any], path: Path) -> Any:
    """A dataclass from what its JSON holds, lists as tuples."""
    hints = typing.get_type_hints(kind)
    fields = {field.name for field in dataclasses.fields(kind)}
    if set(values) != fields:
        raise ValueError(f"{path}: {', '.join(sorted(set(values) ^ fields))} is unknown or missing")
    filled = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = _filled(hints[name], value, path)
        elif name == "shards":
            value = tuple(_filled(FileRecord, record, path) for record in value)
        elif name in ("tokens", "passages") and isinstance(value, dict):
            value = {key: tuple(shape) for key, shape in value.items()}
        filled[name] = value
    return kind(**filled)
