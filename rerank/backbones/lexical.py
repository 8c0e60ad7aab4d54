"""A lexical head: what passages get for words that the query spells the same way.

Enters: the words of a packed row, numbered by `rerank.prompt.words`. Leaves: a value a passage.

    value(q, p) = c * sum_i w_i f_i / (f_i + k (1 - b + b |p| / a))

with i over the query's words, f_i how often the passage has it, |p| its words, a their usual
number, and w_i the word's inverse document frequency as a share of the query's: BM25 (Robertson and
Zaragoza, 2009) with frequencies that come with the model in place of a corpus's. States of an
encoder blur names, numbers and words it has rarely seen; this head does not. All of it stays on the
host, which has nothing else to do while a GPU reads.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file

from rerank.backbones.low_rank import load_tensors
from rerank.prompt.words import NO_WORD

FILE = "lexical.safetensors"
# k and b of BM25.
_SATURATION, _LENGTH = 1.2, 0.75


class WordWeights(NamedTuple):
    """The words `keys` int32 [S] of signal tokens and what they count, `weights` float64 [S].

    `usual` is the usual length of a passage in words.
    """

    keys: torch.Tensor
    weights: torch.Tensor
    usual: float


class Lexical:
    """Inverse document frequencies of words, from a count of many texts."""

    def __init__(
        self, keys: torch.Tensor, weights: torch.Tensor, *, coefficient: float, usual: float
    ) -> None:
        """`keys` int32 [V] ascending and the words' `weights` float32 [V].

        A word that is not among them is as rare as the rarest. `coefficient` is c, `usual` a.
        """
        self.keys, self.weights = keys, weights
        self.coefficient, self.usual = coefficient, usual

    @classmethod
    def load(cls, folder: Path) -> "Lexical":
        """Read it from `folder`; raises `ValueError` naming the file that is missing or broken."""
        path = folder / FILE
        if not path.is_file():
            raise ValueError(f"{folder} has lexical: true and no {FILE}")
        found = load_tensors(path)
        if set(found) != {"keys", "weights", "constants"}:
            raise ValueError(f"{path} holds {sorted(found)}, wanted constants, keys and weights")
        keys, weights, constants = found["keys"], found["weights"], found["constants"]
        if not (0 < len(keys) == len(weights) and (keys.diff() > 0).all() and len(constants) == 2):
            raise ValueError(f"{path}: keys must ascend, and have a weight each; 2 constants")
        coefficient, usual = constants.tolist()
        return cls(keys, weights, coefficient=coefficient, usual=usual)

    def save(self, folder: Path) -> None:
        """Write what `load` reads."""
        constants = torch.tensor([self.coefficient, self.usual])
        tensors = {"keys": self.keys, "weights": self.weights, "constants": constants}
        save_file({name: x.cpu().contiguous() for name, x in tensors.items()}, folder / FILE)

    def read(self, words: torch.Tensor, request: torch.Tensor, requests: int) -> WordWeights:
        """The weights of signal tokens' `words` int32 [S]; `request` int64 [S] owns each of them.

        They add up to c over a query, but over one without a word, where they are 0.
        """
        places = torch.searchsorted(self.keys, words).clamp(max=len(self.keys) - 1)
        known = self.keys[places] == words
        raw = torch.where(known, self.weights[places], self.weights.max()).double()
        raw = torch.where(words == NO_WORD, 0.0, raw)
        totals = raw.new_zeros(requests).index_add(0, request, raw)[request]
        shares = torch.where(totals > 0, raw / totals.where(totals > 0, 1.0), 0.0)
        return WordWeights(words, self.coefficient * shares, self.usual)


def word_matches(asked: WordWeights, words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """float64 [N]: the value of each passage of one request.

    `asked` are its signal tokens' words, `words` int32 [T] those of its passages, one after the
    other, of `lengths` int64 [N] tokens. Frequencies are counts, and a passage's terms are added up
    in a row of their own: neither the order nor the number of passages changes a bit.
    """
    owner = torch.arange(len(lengths), device=words.device).repeat_interleave(lengths)
    own = (asked.keys != NO_WORD).nonzero()[:, 0]
    matches = (words[:, None] == asked.keys[own]).double()
    counts = matches.new_zeros(len(lengths), len(own)).index_add(0, owner, matches)
    sizes = counts.new_zeros(len(lengths)).index_add(0, owner, (words != NO_WORD).double())
    room = _SATURATION * (1 - _LENGTH + _LENGTH * sizes / asked.usual)
    return (asked.weights[own] * counts / (counts + room[:, None])).contiguous().sum(-1)
