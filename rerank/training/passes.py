"""One forward pass's input: prompts packed, with their labels beside them.

Enters: prompts of a step. Leaves: a `Pass` on the model's device.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from rerank.backbones.protocol import Backbone
from rerank.prompt.candidates import Candidate
from rerank.prompt.packing import BlockTokens, PackedPrompts, PromptTokens, pack, tokenize
from rerank.prompt.template import PromptTexts, fill
from rerank.training.order import Prompt, with_borrowed
from rerank.training.settings import TrainingSettings

_NOTHING = BlockTokens([], [], [])


class Pass(NamedTuple):
    """Prompts packed; per query `grades` int64 [N] and `teacher` float32 [N] of its passages.

    `queries` int64 [S] is the query of each signal token: the request that it scores, but where
    all queries score the passages of one request. `answers` are the spans of the answers' tokens,
    none where no language model is trained.
    """

    packed: PackedPrompts
    queries: torch.Tensor
    grades: tuple[torch.Tensor, ...]
    teacher: tuple[torch.Tensor, ...]
    answers: tuple[range, ...]


def make_pass(prompts: Sequence[Prompt], backbone: Backbone, settings: TrainingSettings) -> Pass:
    """Tokenize and pack `prompts`, each with its own passages or all with the union of them."""
    limit = min(
        settings.max_passage_tokens or backbone.settings.max_passage_tokens,
        backbone.settings.max_passage_tokens,
    )
    # A step reads the beginning of a long passage: what its windows say together is not trained.
    ranker = replace(backbone.settings, max_passage_tokens=limit, max_windows=1)
    if settings.in_batch:
        texts, labels = _shared(prompts, backbone)
    else:
        prompts = with_borrowed(prompts, settings.borrowed)
        texts = [fill(ranker, prompt.query, prompt.passages) for prompt in prompts]
        labels = [(prompt.grades, prompt.teacher) for prompt in prompts]
    tokens = tokenize(backbone.tokenizer, ranker, texts)
    lengths = [len(prompt.query.ids) for prompt in tokens]
    if settings.loss.language_model:
        tokens = _with_answers(tokens, prompts, backbone, settings)
    packed = pack(
        tokens,
        ranker,
        pad_id=backbone.pad_id,
        query_position=backbone.query_position,
        device=backbone.device,
    )
    answers: tuple[range, ...] = ()
    if settings.loss.language_model:
        spans = [packed.layout.spans[request].query for request in range(len(prompts))]
        answers = tuple(
            range(span.start + length, span.end)
            for span, length in zip(spans, lengths, strict=True)
        )
    return Pass(
        packed,
        packed.signal_request,
        tuple(torch.tensor(grades, device=backbone.device) for grades, _ in labels),
        tuple(torch.tensor(teacher, device=backbone.device) for _, teacher in labels),
        answers,
    )


def _shared(
    prompts: Sequence[Prompt], backbone: Backbone
) -> tuple[list[PromptTexts], list[tuple[tuple[int, ...], tuple[float, ...]]]]:
    """All passages in the first prompt, none in the others; labels of all for every query.

    Equal texts are one passage, whatever their ids. A passage that came with another query has
    grade 0 and no teacher's score.
    """
    union: dict[tuple[str, str], Candidate] = {}
    for prompt in prompts:
        for passage in prompt.passages:
            union.setdefault((passage.title, passage.text), passage)
    places = {key: place for place, key in enumerate(union)}
    labels = []
    for prompt in prompts:
        grades, teacher = [0] * len(union), [float("nan")] * len(union)
        for passage, grade, score in zip(
            prompt.passages, prompt.grades, prompt.teacher, strict=True
        ):
            place = places[passage.title, passage.text]
            grades[place], teacher[place] = grade, score
        labels.append((tuple(grades), tuple(teacher)))
    texts = [fill(backbone.settings, prompts[0].query, list(union.values()))]
    for prompt in prompts[1:]:
        alone = fill(backbone.settings, prompt.query, [])
        texts.append(alone._replace(instruction=""))
    return texts, labels


def _with_answers(
    tokens: Sequence[PromptTokens],
    prompts: Sequence[Prompt],
    backbone: Backbone,
    settings: TrainingSettings,
) -> list[PromptTokens]:
    """The prompts with the answer's tokens behind the query block, closed by the end token."""
    answers = [_answer(prompt, settings.loss.answer) for prompt in prompts]
    encoded = backbone.tokenizer(answers, add_special_tokens=False, verbose=False)["input_ids"]
    end = backbone.tokenizer.eos_token_id
    longer = []
    for prompt, ids in zip(tokens, encoded, strict=True):
        whole = ids if end is None else [*ids, end]
        kept = whole[: settings.loss.answer_tokens]
        query = BlockTokens(
            [*prompt.query.ids, *kept],
            [*prompt.query.characters, *([(0, 0)] * len(kept))],
            [*prompt.query.special, *([False] * len(kept))],
        )
        longer.append(prompt._replace(query=query))
    return longer


def _answer(prompt: Prompt, template: str) -> str:
    """The template filled from the first of the passages of the highest grade."""
    best = prompt.passages[max(range(len(prompt.grades)), key=prompt.grades.__getitem__)]
    for name in ("id", "title", "text"):
        before, placeholder, after = template.partition(f"{{{name}}}")
        if placeholder:
            return f"{before}{getattr(best, name)}{after}"
    return template
