"""Refit what a late interaction's parts count: temperature, dense prior, equal words.

Enters: rerankers, labelled lists of several sources. Leaves: for each the nDCG@10 that it has and
that it has with the best constants of a grid, the mean over sources; and a copy with those.

    fit(BlockRanker.from_pretrained("mini"), read_examples("validation.jsonl.gz"))

Training moves the states, and the constants that suited them before need not suit them after.
"""

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from configs.files import new_folder
from eval.mini_data.pairs import digest
from rerank import BlockRanker
from rerank.backbones.encoder import EncoderBackbone
from rerank.backbones.late_interaction import FILE as LATE_FILE
from rerank.backbones.lexical import FILE as LEXICAL_FILE
from rerank.examples.labelled import Example
from rerank.examples.ndcg import ndcg
from rerank.prompt.packing import pack, tokenize
from rerank.prompt.template import fill
from rerank.scoring.scores import matches

# What the constants are multiplied by.
TEMPERATURES = (0.5, 0.75, 1.0, 1.5, 2.0)
COEFFICIENTS = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0)


class Constants(NamedTuple):
    """What temperature, dense prior and equal words are multiplied by."""

    temperature: float = 1.0
    dense: float = 1.0
    lexical: float = 1.0


@dataclass(frozen=True)
class Fitted:
    """nDCG@10 as the reranker is, with `constants`, and with those that the other half chose.

    The last one is what refitting is worth: each half of the queries by constants that it did not
    choose.
    """

    before: float
    constants: Constants
    after: float
    crossed: float


class _Parts(NamedTuple):
    """A list's scores in parts: `tokens` [G, N] at G temperatures, `dense` [N], `words` [N]."""

    source: str
    half: int
    grades: np.ndarray
    tokens: np.ndarray
    dense: np.ndarray
    words: np.ndarray


def fit(ranker: BlockRanker, examples: Sequence[Example], label: str = "reading") -> Fitted:
    """Find the constants under which `ranker` orders `examples` best; `label` names the bar.

    The source of an example is its id up to the last hyphen. Raises `ValueError` for a reranker
    without a late interaction and equal words.
    """
    backbone = ranker.backbone
    if not (
        isinstance(backbone, EncoderBackbone) and backbone.late_interaction and backbone.lexical
    ):
        raise ValueError("only a reranker with late_interaction and lexical has constants to refit")
    parts = [_parts(backbone, example) for example in tqdm(examples, desc=label, disable=None)]
    grid = [Constants(*c) for c in itertools.product(TEMPERATURES, COEFFICIENTS, COEFFICIENTS)]
    values = np.array([[_value(each, constants) for each in parts] for constants in grid])
    everyone = np.ones(len(parts), bool)
    halves = np.array([each.half for each in parts])
    means = _over_sources(values, parts, everyone)
    crossed = np.array([values[_best(values, parts, halves != half)] for half in (0, 1)])
    own = np.where(halves == 0, crossed[0], crossed[1])
    best = int(np.argmax(means))
    start = grid.index(Constants())
    return Fitted(
        float(means[start]),
        grid[best],
        float(means[best]),
        float(_over_sources(own[None], parts, everyone)[0]),
    )


def write_refitted(model: Path, constants: Constants, folder: Path) -> None:
    """Copy the reranker `model` to `folder`, its constants multiplied by `constants`.

    Raises `ValueError` where `folder` exists.
    """
    with new_folder(folder) as made:
        shutil.copytree(model, made, dirs_exist_ok=True)
        late, lexical = load_file(made / LATE_FILE), load_file(made / LEXICAL_FILE)
        late["start"] *= torch.tensor([constants.temperature, 1.0, constants.dense])
        lexical["constants"] *= torch.tensor([constants.lexical, 1.0])
        save_file(late, made / LATE_FILE)
        save_file(lexical, made / LEXICAL_FILE)


@torch.inference_mode()
def _parts(backbone: EncoderBackbone, example: Example) -> _Parts:
    texts = fill(backbone.settings, example.query, example.passages)
    prompts = pack(
        tokenize(backbone.tokenizer, backbone.settings, [texts]),
        backbone.settings,
        pad_id=backbone.pad_id,
        query_position=backbone.query_position,
        device=backbone.device,
    )
    with torch.autocast(backbone.device.type, torch.bfloat16):
        readout = backbone.read(prompts)
    late, lexical = backbone.late_interaction, backbone.lexical
    assert late is not None
    assert lexical is not None
    assert readout.prior is not None
    assert readout.words is not None
    (head,) = readout.heads
    temperature = float(late.temperature)
    signals, weights = head.q[:, 0].float() * temperature, head.weights[0].double() / temperature
    tokens = []
    for span in prompts.passages.spans[0].passages:
        own = prompts.key_mask[span.start : span.end]
        keys = head.k[span.start : span.end, 0][own].float()
        cosines = (signals @ keys.T).double()
        soft = [
            t * temperature * torch.logsumexp(cosines / (t * temperature), -1) for t in TEMPERATURES
        ]
        tokens.append(torch.stack([(weights * each).sum() for each in soft]))
    everything = torch.ones_like(prompts.signal_request, dtype=torch.bool)
    return _Parts(
        example.id.rpartition("-")[0],
        digest(example.query) % 2,
        np.array([example.relevant.get(passage.id, 0) for passage in example.passages]),
        torch.stack(tokens, 1).numpy(),
        readout.prior.values(prompts.passage_counts).numpy(),
        matches(readout.words, prompts, 0, everything).numpy(),
    )


def _value(parts: _Parts, constants: Constants) -> float:
    """nDCG@10 of a list under `constants`."""
    tokens = parts.tokens[TEMPERATURES.index(constants.temperature)]
    scores = tokens + constants.dense * parts.dense + constants.lexical * parts.words
    ordered = parts.grades[np.argsort(-scores, kind="stable")]
    return ndcg(ordered.tolist(), parts.grades.tolist())


def _best(values: np.ndarray, parts: Sequence[_Parts], chosen: np.ndarray) -> int:
    """The row of `values` [C, Q] of the highest mean over sources, of the `chosen` queries."""
    return int(np.argmax(_over_sources(values, parts, chosen)))


def _over_sources(values: np.ndarray, parts: Sequence[_Parts], chosen: np.ndarray) -> np.ndarray:
    """The mean over sources [C] of each source's mean of `values` [C, Q] over `chosen` queries."""
    sources = np.array([each.source for each in parts])
    kept = [(sources == name) & chosen for name in sorted(set(sources.tolist()))]
    means: np.ndarray = np.mean([values[:, rows].mean(1) for rows in kept if rows.any()], axis=0)
    return means
