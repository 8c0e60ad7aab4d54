"""A shard of a passage cache: some passages' states, in memory or mapped from a file.

Enters: states of batches of passages. Leaves: a shard, and floats of any of its passages.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch

from configs.formats.lines import parse_json
from rerank.backbones.passage_states import PassageStates, is_value
from rerank.cache.identity import CacheIdentity
from rerank.cache.precision import Rows, encode, rounding_error

_TOKEN = "token."
_PASSAGE = "passage."


@dataclass(frozen=True)
class CacheShard:
    """`ids` and `digests` of P passages, their `lengths` int64 [P], and what is stored of them.

    `key_mask` bool [T] is False for special tokens; `words` int32 [T] number the words that tokens
    begin, 0 where nothing compares them; `salient` bool [T] marks the tokens that keep
    more bits, or is None; `tokens` and `passages` hold the encoded states by name.
    """

    ids: tuple[str, ...]
    digests: tuple[str, ...]
    lengths: torch.Tensor
    key_mask: torch.Tensor
    words: torch.Tensor
    salient: torch.Tensor | None
    tokens: Mapping[str, torch.Tensor]
    passages: Mapping[str, torch.Tensor]

    @cached_property
    def starts(self) -> torch.Tensor:
        """int64 [P + 1]: the first token of each passage, and the end."""
        return torch.cat((torch.zeros(1, dtype=torch.int64), self.lengths.cumsum(0)))

    @cached_property
    def _copies(self) -> torch.Tensor | None:
        """int64 [T]: where a salient token's copy lies."""
        return None if self.salient is None else self.salient.cumsum(0) - 1

    @property
    def num_bytes(self) -> int:
        """What the states take, ids and text digests left out."""
        return sum(x.nbytes for x in self.tensors().values() if x.dtype != torch.int64)

    def rows(self, passages: Sequence[int]) -> Rows:
        """Where the tokens of `passages`, their numbers, lie."""
        numbers = torch.tensor(passages)
        starts, lengths = self.starts[numbers], self.lengths[numbers]
        tokens: slice | torch.Tensor
        if all(b - a == 1 for a, b in pairwise(passages)):
            tokens = slice(int(starts[0]), int(starts[-1] + lengths[-1]))
        else:
            ends = lengths.cumsum(0)
            shift = (starts - ends + lengths).repeat_interleave(lengths)
            tokens = torch.arange(int(ends[-1])) + shift
        if self.salient is None or self._copies is None:
            return Rows(tokens)
        places = self.salient[tokens].nonzero()[:, 0]
        return Rows(tokens, places, self._copies[tokens][places])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything as tensors by name, for a file; `from_tensors` turns it back."""
        texts = json.dumps([self.ids, self.digests], ensure_ascii=False).encode()
        found = {
            "texts": torch.frombuffer(bytearray(texts), dtype=torch.uint8),
            "lengths": self.lengths,
            "key_mask": self.key_mask,
            "words": self.words,
            **{_TOKEN + name: tensor for name, tensor in self.tokens.items()},
            **{_PASSAGE + name: tensor for name, tensor in self.passages.items()},
        }
        return found if self.salient is None else {**found, "salient": self.salient}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> "CacheShard":
        """The shard that `tensors` gave."""
        ids, digests = parse_json(tensors["texts"].numpy().tobytes().decode())
        return cls(
            tuple(ids),
            tuple(digests),
            tensors["lengths"],
            tensors["key_mask"],
            tensors["words"],
            tensors.get("salient"),
            {n[len(_TOKEN) :]: x for n, x in tensors.items() if n.startswith(_TOKEN)},
            {n[len(_PASSAGE) :]: x for n, x in tensors.items() if n.startswith(_PASSAGE)},
        )


def make_shard(
    ids: Sequence[str],
    digests: Sequence[str],
    lengths: Sequence[int],
    key_mask: torch.Tensor,
    words: torch.Tensor,
    states: PassageStates,
    bits: int,
    salient_share: float,
) -> CacheShard:
    """Encode the `states` of passages, whose tokens lie one after the other.

    In 4 bits the share `salient_share` of each passage's tokens that would lose most keeps 8.
    """
    sizes = torch.tensor(lengths, dtype=torch.int64)
    salient = None
    if bits == 4 and salient_share > 0:
        lost = sum(rounding_error(x) for x in states.tokens.values())
        assert isinstance(lost, torch.Tensor)
        salient = _largest_of_each(lost.cpu(), sizes, salient_share)
    tokens: dict[str, torch.Tensor] = {}
    for name, x in states.tokens.items():
        tokens |= encode(name, x, _bits_of(name, bits), salient)
    # A vector a passage weighs little beside its tokens: never fewer than 16 bits.
    passages: dict[str, torch.Tensor] = {}
    for name, x in states.passages.items():
        passages |= encode(name, x, max(bits, 16))
    marks, numbers = key_mask.cpu(), words.cpu()
    return CacheShard(tuple(ids), tuple(digests), sizes, marks, numbers, salient, tokens, passages)


def check_shard(shard: CacheShard, identity: CacheIdentity) -> None:
    """Raise `ValueError` unless a shard from a file is one that `identity` describes."""
    for name, texts in (("ids", shard.ids), ("digests", shard.digests)):
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"its {name} are no strings")
    if shard.lengths.dtype != torch.int64 or shard.lengths.dim() != 1 or (shard.lengths < 1).any():
        raise ValueError("its lengths are none")
    passages, tokens = len(shard.lengths), int(shard.lengths.sum())
    if not len(shard.ids) == len(shard.digests) == passages:
        raise ValueError(f"it has {len(shard.ids)} ids for {passages} passages")
    salient = 0 if shard.salient is None else int(shard.salient.sum())
    wanted, found = _shard_of_one(identity).tensors(), shard.tensors()
    if found.keys() != wanted.keys():
        raise ValueError(f"{min(found.keys() ^ wanted.keys())} is missing or unknown")
    for name, one in wanted.items():
        rows = salient if ".salient" in name else passages if name.startswith(_PASSAGE) else tokens
        shape = (rows, *one.shape[1:])
        if name in ("texts", "lengths"):
            continue
        if found[name].dtype != one.dtype or found[name].shape != shape:
            raise ValueError(
                f"{name} is {found[name].dtype} {list(found[name].shape)}, wanted {one.dtype} "
                f"{list(shape)}"
            )


def _shard_of_one(identity: CacheIdentity) -> CacheShard:
    """A shard of one passage of one token, for the shapes of what it stores."""
    tokens = {name: torch.zeros(1, *sizes) for name, (*sizes, _) in identity.tokens.items()}
    passages = {name: torch.zeros(1, size) for name, (size, _) in identity.passages.items()}
    return make_shard(
        ["-"],
        ["-"],
        [1],
        torch.zeros(1, dtype=torch.bool),
        torch.zeros(1, dtype=torch.int32),
        PassageStates(tokens, passages),
        identity.bits,
        identity.salient_share,
    )


def joined(parts: Sequence[CacheShard]) -> CacheShard:
    """One shard of the passages of several, in order."""

    def cat(name: str) -> dict[str, torch.Tensor]:
        tensors = [getattr(part, name) for part in parts]
        return {key: torch.cat([x[key] for x in tensors]) for key in tensors[0]}

    marks = [part.salient for part in parts if part.salient is not None]
    return CacheShard(
        sum((part.ids for part in parts), ()),
        sum((part.digests for part in parts), ()),
        torch.cat([part.lengths for part in parts]),
        torch.cat([part.key_mask for part in parts]),
        torch.cat([part.words for part in parts]),
        torch.cat(marks) if marks else None,
        cat("tokens"),
        cat("passages"),
    )


def apart(shard: CacheShard) -> Iterator[CacheShard]:
    """A shard of its own for each passage of one without salient tokens; no memory is shared."""
    assert shard.salient is None
    for number, (start, end) in enumerate(pairwise(shard.starts.tolist())):
        own, one = slice(start, end), slice(number, number + 1)
        yield CacheShard(
            shard.ids[one],
            shard.digests[one],
            shard.lengths[one].clone(),
            shard.key_mask[own].clone(),
            shard.words[own].clone(),
            None,
            {name: x[own].clone() for name, x in shard.tokens.items()},
            {name: x[one].clone() for name, x in shard.passages.items()},
        )


def digest_of(title: str, text: str) -> str:
    """What a passage's words are known by."""
    words = f"{len(title)} {title}{text}".encode(errors="surrogatepass")
    return hashlib.blake2b(words, digest_size=12).hexdigest()


def _bits_of(name: str, bits: int) -> int:
    """Precision 6 parts keys and values."""
    return bits if bits != 6 else 4 if is_value(name) else 8


def _largest_of_each(values: torch.Tensor, lengths: torch.Tensor, share: float) -> torch.Tensor:
    """bool [T]: the ceil(share * n) largest of each passage's n values; the first of equals."""
    owner = torch.arange(len(lengths)).repeat_interleave(lengths)
    by_value = values.argsort(descending=True, stable=True)
    order = by_value[owner[by_value].argsort(stable=True)]
    starts = lengths.cumsum(0) - lengths
    rank = torch.arange(len(values)) - starts[owner[order]]
    kept = rank < (lengths * share).ceil()[owner[order]]
    marks = torch.zeros(len(values), dtype=torch.bool)
    marks[order] = kept
    return marks
