"""Where in a passage the attention falls: what each of its tokens gets.

Enters: a query and passages. Leaves: for each passage its tokens' places in the caller's own title
and text, with their shares of the attention that all passages get.

    for token in highlights(ranker.backbone, "who?", as_candidates(["Goethe did."]))[0].tokens: ...
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from configs.formats.checks import check_query
from kernels import BlockLayout, token_mass
from rerank.backbones.protocol import Backbone, Readout, ScoringHeads, packed_for
from rerank.prompt.candidates import Candidate
from rerank.prompt.packing import BlockTokens, PackedPrompts, tokenize
from rerank.prompt.template import Given, fill


class TokenMass(NamedTuple):
    """The `mass` of one token, which stands at characters [start, end) of the passage's `field`.

    The field is `title` or `text`.
    """

    field: str
    start: int
    end: int
    mass: float


class Highlights(NamedTuple):
    """What one passage's tokens get, in reading order.

    `mass` is the share of the whole passage, the sum over `tokens` and what the template's own
    tokens get (`template_mass`). The masses of all passages of a call sum to 1.
    """

    id: str
    mass: float
    template_mass: float
    tokens: tuple[TokenMass, ...]


@torch.inference_mode()
def highlights(backbone: Backbone, query: str, candidates: Sequence[Candidate]) -> list[Highlights]:
    """The highlights of each candidate, in their order, all read in one prompt.

    A token's mass is its probability under a softmax of a signal token's logits over the tokens of
    all passages, summed over the heads and signal tokens that score with their weights: summed
    over a passage it is BlockRank's score (arXiv 2510.05396, section 4), before any calibration or
    prior. Tokens that were cut off are missing. Raises `ValueError` for an empty query.
    """
    check_query(query)
    settings = backbone.settings
    texts = fill(settings, query, candidates)
    (prompt,) = tokenize(backbone.tokenizer, settings, [texts])
    packed = packed_for(backbone, [prompt])
    masses = _token_masses(backbone.read(packed), packed)
    spans = packed.passages.spans[0].passages
    return [
        _of_passage(candidate.id, given, block, masses[start:end].tolist())
        for candidate, given, block, (start, end) in zip(
            candidates, texts.given[1:-1], prompt.passages, spans, strict=True
        )
    ]


def _token_masses(readout: Readout, packed: PackedPrompts) -> torch.Tensor:
    """float64 [T] of one packed prompt; they sum to 1."""
    total = torch.zeros(packed.layout.num_tokens, dtype=torch.float64)
    weight = 0.0
    for heads in readout.heads:
        total += _of_heads(heads, packed).cpu()
        weight += float(heads.weights.double().sum())
    return total / weight


def _of_heads(heads: ScoringHeads, packed: PackedPrompts) -> torch.Tensor:
    """float64 [T]: one layer's token masses, added up with the weights of heads and signals."""
    layout = packed.passages
    assert isinstance(layout, BlockLayout)  # nothing here was read before

    def masses(signals: slice) -> torch.Tensor:
        return token_mass(
            heads.q[signals],
            heads.k,
            layout,
            scale=heads.scale,
            signal_request=packed.signal_request[signals],
            key_mask=packed.key_mask,
        ).double()

    weights = heads.weights.double()
    if (weights == weights[:, :1]).all():  # one call's mean over the signals is the sum's share
        return weights.sum(1) @ masses(slice(None))
    each = [weights[:, s] @ masses(slice(s, s + 1)) for s in range(weights.shape[1])]
    return torch.stack(each).sum(0)


def _of_passage(
    id_: str, given: Sequence[Given], block: BlockTokens, masses: list[float]
) -> Highlights:
    tokens = []
    elsewhere = 0.0
    for (first, last), mass in zip(block.characters, masses, strict=True):
        pieces = (
            TokenMass(field, max(first, start) - start, min(last, end) - start, mass)
            for field, start, end in given
        )
        best = max(pieces, key=lambda piece: piece.end - piece.start)
        if best.end > best.start:
            tokens.append(best)
        else:
            elsewhere += mass
    return Highlights(id_, sum(masses), elsewhere, tuple(tokens))
