"""The learned part of a late interaction: what each query token counts, and the dense prior.

Enters: hidden states of a packed row and its tokens. Leaves: weights of the query's tokens, the
temperature of the soft maximum, the pooled vectors of the prior.

    score(q, p) = c_t * sum_i w_i * t * log sum_j exp(cos(q_i, p_j) / t) + c_d * cos(q, p)

with i over the query's tokens, j over the passage's, cos(q, p) of mean-pooled vectors, and w_i
proportional to a table's entry for the token times exp(g h_i . u), adding up to 1: rare words count
more (as in BM25), and context corrects the table. The sum over i is a late interaction (ColBERT,
arXiv 2004.12832) with a soft maximum.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from kernels.layout import Span
from rerank.backbones.low_rank import load_tensors

# What a parameter is multiplied by, so that one learning rate suits it and a low-rank update.
_GAIN = 10.0
# A learned factor stays between exp(-3) and exp(3).
_MOST = 3.0

FILE = "late_interaction.safetensors"


class LateInteraction(nn.Module):
    """`table` float32 [V] of token weights is fixed; all else is trained from a start of zeros.

    The start is the table alone, `temperature`, and coefficients c_t and c_d.
    """

    table: torch.Tensor
    start: torch.Tensor

    def __init__(
        self, table: torch.Tensor, width: int, *, temperature: float, tokens: float, dense: float
    ) -> None:
        super().__init__()
        self.register_buffer("table", table.float())
        self.register_buffer("start", torch.tensor([temperature, tokens, dense]))
        self.direction = nn.Parameter(torch.zeros(width))
        self.shifts = nn.Parameter(torch.zeros(3))

    @classmethod
    def load(cls, folder: Path, words: int, width: int) -> "LateInteraction":
        """Read it from `folder`, for a model of `words` token ids and states of `width`.

        Raises `ValueError` naming the file where it is missing, broken or another model's.
        """
        path = folder / FILE
        if not path.is_file():
            raise ValueError(f"{folder} has late_interaction: true and no {FILE}")
        tensors = load_tensors(path)
        shapes = {"table": (words,), "start": (3,), "direction": (width,), "shifts": (3,)}
        if set(tensors) != set(shapes):
            raise ValueError(f"{path} holds {sorted(tensors)}, wanted {sorted(shapes)}")
        for name, shape in shapes.items():
            if tuple(tensors[name].shape) != shape:
                raise ValueError(
                    f"{path}: {name} is {tuple(tensors[name].shape)}, wanted {shape} for this model"
                )
        made = cls(tensors["table"], width, temperature=1.0, tokens=1.0, dense=1.0)
        made.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return made

    @property
    def temperature(self) -> torch.Tensor:
        """t, a scalar above 0."""
        return self._constants()[0]

    @property
    def dense_coefficient(self) -> torch.Tensor:
        """c_d, a scalar above 0."""
        return self._constants()[2]

    def token_weights(
        self, ids: torch.Tensor, hidden: torch.Tensor, request: torch.Tensor, requests: int
    ) -> torch.Tensor:
        """float32 [S]: c_t * w_i of query tokens `ids` [S], whose unit states are `hidden` [S, d].

        `request` int64 [S] says which tokens are of one query.
        """
        # A product and a sum of its own for every token: no bit depends on how many there are.
        learned = _GAIN * _GAIN * (hidden * self.direction).sum(-1)
        weights = self.table[ids].double() * learned.clamp(-_MOST, _MOST).double().exp()
        totals = weights.new_zeros(requests).index_add(0, request, weights)
        return (self._constants()[1].double() * weights / totals[request]).float()

    def _constants(self) -> torch.Tensor:
        return self.start * (_GAIN * self.shifts).clamp(-_MOST, _MOST).exp()


def pooled(hidden: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
    """Unit means float32 [n, d] of the rows of `hidden` [T, d] in each of n `spans`.

    Spans may repeat, and do not overlap otherwise.
    """
    if not spans:
        return hidden.new_zeros((0, hidden.shape[-1]), dtype=torch.float32)
    # Every span is averaged by itself: its neighbours cannot change how its rows are added up. And
    # all are cut at once: a slice's gradient is as large as `hidden`, and there are many.
    bounds = sorted({0, len(hidden), *(place for span in spans for place in span)})
    pieces = hidden.split([end - start for start, end in pairwise(bounds)])
    places = {start: place for place, start in enumerate(bounds)}
    rows = [pieces[places[a]] if b > a else hidden[a:b] for a, b in spans]
    means = torch.stack([own.float().mean(0) for own in rows])
    return nn.functional.normalize(means, dim=-1)
