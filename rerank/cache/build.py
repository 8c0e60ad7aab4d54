"""Read passages once and keep their states: shard by shard, in memory bounded by one shard.

Enters: passages. Leaves: `CacheShard`s; on disk, a build that may be killed and run again.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from tqdm import tqdm

from rerank.backbones.passage_states import PassageStates
from rerank.backbones.protocol import Backbone
from rerank.cache.files import (
    INSTRUCTION,
    MANIFEST,
    FileRecord,
    Manifest,
    made_with,
    read_manifest,
    read_shard,
    record_of,
    shard_name,
    write_manifest,
    write_tensors,
)
from rerank.cache.identity import CacheIdentity, check_cacheable, identify
from rerank.cache.shard import CacheShard, digest_of, joined, make_shard
from rerank.prompt.candidates import Candidate, as_candidates
from rerank.prompt.packing import BlockTokens, PackedPrompts, PromptTokens, pack, tokenize
from rerank.prompt.template import fill
from rerank.prompt.windows import PassagesTruncatedWarning

DEFAULT_BITS = 8
DEFAULT_SALIENT_SHARE = 0.05
# A shard's size on disk, about; a build loses at most one when it is killed.
_SHARD_BYTES = 1 << 26
_BATCH_TOKENS = 4096
_WINDOW = 256
Item = TypeVar("Item")


class Start(NamedTuple):
    """What a build knows before its first passage: the instruction's tokens and states."""

    identity: CacheIdentity
    instruction: BlockTokens
    states: Mapping[str, torch.Tensor]
    shard_tokens: int


@torch.inference_mode()
def start(backbone: Backbone, bits: int, salient_share: float) -> Start:
    """Read the instruction; raises `ValueError` where passages can't be cached."""
    check_cacheable(backbone)
    (prompt,) = tokenize(
        backbone.tokenizer, backbone.settings, [fill(backbone.settings, "-", as_candidates(["-"]))]
    )
    states, _ = _read(backbone, prompt)
    identity = identify(backbone, states, bits, salient_share)
    length = len(prompt.instruction.ids)
    floats = sum(heads * size for heads, size, _ in identity.tokens.values())
    return Start(
        identity,
        prompt.instruction,
        {name: x[:length].float().cpu() for name, x in states.tokens.items()},
        max(_BATCH_TOKENS, _SHARD_BYTES * 8 // (floats * bits)),
    )


def shards_of(
    backbone: Backbone, begun: Start, candidates: Iterator[Candidate]
) -> Iterator[CacheShard]:
    """The shards of `candidates`: where one ends follows from the passages alone."""
    group: list[tuple[Candidate, BlockTokens]] = []
    tokens = 0
    for candidate, block in tokenized(backbone, candidates):
        group.append((candidate, block))
        tokens += len(block.ids)
        if tokens >= begun.shard_tokens:
            yield _shard(backbone, begun, group)
            group, tokens = [], 0
    if group:
        yield _shard(backbone, begun, group)


def build(
    backbone: Backbone, passages: Iterable[Any], out: Path, bits: int, salient_share: float
) -> Manifest:
    """Build a cache of `passages` in the folder `out`, going on where a killed build stopped.

    The finished folder is the same, byte for byte on CPU, however often it was killed. Raises
    `ValueError` when `out` holds a whole cache, the unfinished one of other passages, another
    model or other settings, or anything that no build wrote, and for passages that `as_candidates`
    refuses.
    """
    _check_folder(out)
    begun = start(backbone, bits, salient_share)
    out.mkdir(parents=True, exist_ok=True)
    total = len(passages) if isinstance(passages, Sized) else None
    with tqdm(total=total, unit=" passages", disable=None, file=sys.stderr) as progress:
        candidates = checked(passages)
        records = list(_kept_shards(out, begun.identity, candidates))
        progress.update(sum(record.passages for record in records))
        write_tensors(out / INSTRUCTION, begun.states, begun.identity)
        for shard in shards_of(backbone, begun, candidates):
            path = out / shard_name(len(records))
            write_tensors(path, shard.tensors(), begun.identity)
            records.append(_record(path, shard))
            progress.update(len(shard.ids))
    if not records:
        raise ValueError("no passages to cache")
    manifest = Manifest(
        identity=begun.identity,
        passages=sum(record.passages for record in records),
        tokens=sum(record.tokens for record in records),
        instruction=record_of(out / INSTRUCTION),
        shards=tuple(records),
        versions=_versions(),
    )
    write_manifest(out, manifest)
    return manifest


def _check_folder(out: Path) -> None:
    """Raise `ValueError` where something lies in `out` besides an unfinished build of ours."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out} is a file, wanted a folder")
    if (out / MANIFEST).exists():
        read_manifest(out)
        raise ValueError(f"{out} holds a whole passage cache; remove it, or name another folder")
    ours, number = [INSTRUCTION, MANIFEST, shard_name(0)], 0
    while (out / ours[-1]).exists():
        number += 1
        ours.append(shard_name(number))
    for path in sorted(out.iterdir()):
        # What a killed build was writing has its name between these.
        unfinished = any(fnmatch(path.name, f".{name}.*.tmp") for name in ours)
        if path.name not in ours and not unfinished:
            raise ValueError(
                f"{path} is in the way: no build of a cache wrote it, and nothing was touched; "
                f"move it, or name another folder"
            )
        if not unfinished:
            made_with(path)


def _kept_shards(
    out: Path, identity: CacheIdentity, candidates: Iterator[Candidate]
) -> Iterator[FileRecord]:
    """Records of the shards that a killed build left; their passages are taken off `candidates`."""
    number = 0
    while (path := out / shard_name(number)).exists():
        if made_with(path) != _as_json(identity):
            raise ValueError(
                f"{out} holds an unfinished cache of another model or other settings; remove it, "
                f"or name another folder"
            )
        shard = read_shard(path, identity)
        for place, (id_, digest) in enumerate(zip(shard.ids, shard.digests, strict=True)):
            candidate = next(candidates, None)
            found = candidate and (candidate.id, digest_of(candidate.title, candidate.text))
            if found != (id_, digest):
                raise ValueError(
                    f"{out} holds an unfinished cache of other passages: passage {place} of "
                    f"{path.name} was {id_!r}; remove it, or name another folder"
                )
        yield _record(path, shard)
        number += 1


def checked(passages: Iterable[Any]) -> Iterator[Candidate]:
    """Checked passages; a string's id is its place among all."""
    seen: set[str] = set()
    first = 0
    for window in _windows(passages):
        for number, candidate in enumerate(as_candidates(window, first), first):
            if candidate.id in seen:
                raise ValueError(f"passage {number} repeats the id {candidate.id!r}")
            seen.add(candidate.id)
            yield candidate
        first += len(window)


def _windows(items: Iterable[Item]) -> Iterator[list[Item]]:
    """`items` in order, a few at a time: what one call of a tokenizer reads."""
    remaining = iter(items)
    while window := list(islice(remaining, _WINDOW)):
        yield window


def tokenized(
    backbone: Backbone, candidates: Iterator[Candidate]
) -> Iterator[tuple[Candidate, BlockTokens]]:
    """Each of `candidates` and its block, tokenized a window at a time; warns of those cut."""
    cut = total = 0
    for window in _windows(candidates):
        texts = fill(backbone.settings, "-", window)
        (prompt,) = tokenize(backbone.tokenizer, backbone.settings, [texts])
        cut, total = cut + prompt.truncated, total + len(window)
        yield from zip(window, prompt.passages, strict=True)
    if cut:
        warnings.warn(
            f"{cut} of {total} passages were cut to {backbone.settings.most_passage_tokens} tokens",
            PassagesTruncatedWarning,
            stacklevel=2,
        )


@torch.inference_mode()
def _shard(
    backbone: Backbone, begun: Start, group: Sequence[tuple[Candidate, BlockTokens]]
) -> CacheShard:
    parts = []
    for batch in _batches(group):
        blocks = [block for _, block in batch]
        prompt = PromptTokens(begun.instruction, blocks, begun.instruction, [], 0)
        states, packed = _read(backbone, prompt)
        before = len(begun.instruction.ids)
        lengths = [len(block.ids) for _, block in batch]
        own = slice(before, before + sum(lengths))
        parts.append(
            make_shard(
                [candidate.id for candidate, _ in batch],
                [digest_of(candidate.title, candidate.text) for candidate, _ in batch],
                lengths,
                packed.key_mask[own],
                packed.words[own],
                PassageStates({n: x[own] for n, x in states.tokens.items()}, states.passages),
                begun.identity.bits,
                begun.identity.salient_share,
            )
        )
    return joined(parts)


def _batches(
    group: Sequence[tuple[Candidate, BlockTokens]],
) -> Iterator[list[tuple[Candidate, BlockTokens]]]:
    batch: list[tuple[Candidate, BlockTokens]] = []
    tokens = 0
    for pair in group:
        if batch and tokens + len(pair[1].ids) > _BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(pair)
        tokens += len(pair[1].ids)
    yield batch


def _read(backbone: Backbone, prompt: PromptTokens) -> tuple[PassageStates, PackedPrompts]:
    """The states of one prompt's instruction and passages, and the prompt as it was packed."""
    # A query of one token stands for all: no passage sees it.
    query = BlockTokens([backbone.pad_id], [(0, 0)], [True])
    packed = pack(
        [prompt._replace(query=query, signal=[0])],
        backbone.settings,
        pad_id=backbone.pad_id,
        query_position=backbone.query_position,
        device=backbone.device,
    )
    return backbone.read_passages(packed), packed


def _record(path: Path, shard: CacheShard) -> FileRecord:
    return record_of(path, len(shard.ids), len(shard.key_mask))


def _as_json(identity: CacheIdentity) -> Any:
    import json

    return json.loads(json.dumps(asdict(identity)))


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "safetensors")}
