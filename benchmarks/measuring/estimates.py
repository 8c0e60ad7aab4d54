"""Cheap guesses at what a decoder's full read will say of passages.

Enters: a decoder, a query and its passages. Leaves: for every guess a value a passage.

    dict(Estimates(backbone, [4, 8]).of(query, candidates))["layer 4"]
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import torch

from index.records import Passage
from rerank.backbones.decoder import DecoderBackbone
from rerank.backbones.protocol import ScoringHeads, packed_for
from rerank.prompt.candidates import Candidate
from rerank.prompt.packing import PackedPrompts, tokenize
from rerank.prompt.template import fill
from rerank.scoring.scores import passage_scores
from retrieval.encoder import Encoder


def estimating_at(backbone: DecoderBackbone, layer: int) -> DecoderBackbone:
    """The same model, whose estimates are of `layer`."""
    settings = replace(backbone.settings, coverage_layer=layer, layer=backbone.last_layer)
    layers = backbone.last_layer + 1
    return DecoderBackbone(backbone.model, backbone.tokenizer, settings, layers)


class Estimates:
    """By lower layers' masses, by landmarks there, by cosines, by length, by chance."""

    def __init__(self, backbone: DecoderBackbone, layers: Sequence[int]) -> None:
        """`layers` lie below the last one that scores."""
        self._of_layer = {layer: estimating_at(backbone, layer) for layer in layers}
        self._chance = random.Random(0)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder.load("minilm", device="cpu")

    def of(self, query: str, candidates: Sequence[Candidate]) -> Iterator[tuple[str, list[float]]]:
        """Each estimate's name and values."""
        lengths: list[float] = []
        for layer, backbone in self._of_layer.items():
            texts = fill(backbone.settings, query, candidates)
            prompt = tokenize(backbone.tokenizer, backbone.settings, [texts])
            prompts = packed_for(backbone, prompt)
            readout = backbone.read_estimate(prompts)
            (masses,) = passage_scores(readout, prompts, backbone.settings)
            yield f"layer {layer}", masses.tolist()
            yield f"landmarks {layer}", _landmark_masses(readout.heads[0], prompts)
            lengths = [float(len(block.ids)) for block in prompt[0].passages]
        yield "length", lengths
        passages = [Passage(each.id, each.title, each.text) for each in candidates]
        vectors, _ = self._encoder.encode_passages(passages)
        yield "cosine", (vectors @ self._encoder.encode_queries([query])[0]).tolist()
        yield "chance", [self._chance.random() for _ in candidates]


def _landmark_masses(heads: ScoringHeads, prompts: PackedPrompts) -> list[float]:
    """Masses as if every token of a passage had the mean of its keys."""
    spans = prompts.passages.spans[0].passages
    means = torch.stack([heads.k[start:end].float().mean(0) for start, end in spans])
    means = means.repeat_interleave(heads.q.shape[1] // means.shape[1], dim=1)
    lengths = torch.tensor([float(span.length) for span in spans])
    logits = torch.einsum("shd,nhd->hsn", heads.q.float(), means) * heads.scale + lengths.log()
    masses: list[float] = (logits.softmax(-1) * heads.weights[..., None]).sum((0, 1)).tolist()
    return masses
