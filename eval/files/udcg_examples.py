"""The file format of the published UDCG samples.

Enters: a JSON list of examples (`question`, `passages` with `text`, `is_relevant` and, once a
reader has run, `models_info.<model>.no_res_prob`). Leaves: the same list with `udcg.<model>`.
Unknown fields are kept. Source: the repository of arXiv 2510.21440, data/*.json.

    python -c "from eval.files.udcg_examples import read_examples as r; print(len(r('udcg.json')))"
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from configs.files import write_text
from configs.formats.lines import PathLike, read_json
from eval.measures.udcg import (
    EMPTY_SCORES,
    IRRELEVANT_WEIGHT,
    RELEVANT_WEIGHT,
    LearnedWeights,
    udcg,
)

Example = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """UDCG of every example of a file.

    `scores[i]` is None where a passage has no abstention probability: `failed` says which, and
    such an example is in no mean. `null` counts the contexts without passages.
    """

    scores: tuple[float | None, ...]
    failed: dict[str, str]
    null: int

    @property
    def mean(self) -> float | None:
        """Mean over the examples that have a score; None if there is none."""
        found = [score for score in self.scores if score is not None]
        return sum(found) / len(found) if found else None


def read_examples(path: PathLike) -> list[Example]:
    """Read a file of examples; `ValueError` names the example and the field that is wrong."""
    examples = read_json(path)
    if not isinstance(examples, list) or not examples:
        raise ValueError(f"{path}: expected a JSON list of examples, at least one")
    for number, example in enumerate(examples):
        where = f"{path}, {_name(example, number)}"
        if not isinstance(example, dict) or not isinstance(example.get("question"), str):
            raise ValueError(f"{where}: an example is an object with the text 'question'")
        passages = example.get("passages")
        if not isinstance(passages, list):
            raise ValueError(f"{where}: 'passages' must be a list")
        for place, passage in enumerate(passages, start=1):
            if not isinstance(passage, dict) or not isinstance(passage.get("text"), str):
                raise ValueError(f"{where}, passage {place}: a passage is an object with a 'text'")
            if passage.get("is_relevant") not in (True, False):
                raise ValueError(
                    f"{where}, passage {place}: 'is_relevant' must be true or false, "
                    f"got {passage.get('is_relevant')!r}"
                )
    return examples


def models_in(examples: Sequence[Example]) -> list[str]:
    """Return the names of the readers whose probabilities the passages carry, first seen first."""
    found: dict[str, None] = {}
    for example in examples:
        for passage in example["passages"]:
            found.update(dict.fromkeys(passage.get("models_info") or {}))
    return list(found)


def choose_model(examples: Sequence[Example], model: str | None = None) -> str:
    """Return `model`, or the only reader of the file; `ValueError` where that is not clear."""
    present = models_in(examples)
    if model is None and len(present) == 1:
        return present[0]
    if model in present:
        return str(model)
    listed = ", ".join(present) or "none"
    wanted = f"no abstention probability of {model!r}" if model else "name one reader with --model"
    raise ValueError(f"{wanted}; readers in the file: {listed}")


def score_examples(
    examples: Sequence[Example],
    model: str,
    *,
    relevant_weight: float = RELEVANT_WEIGHT,
    irrelevant_weight: float = IRRELEVANT_WEIGHT,
    empty: float = EMPTY_SCORES["zero"],
    weights: LearnedWeights | None = None,
) -> Scored:
    """Score every example with `model`'s probabilities, position-free or by learned weights.

    The published code leaves passages without a probability out of the sum but in the count;
    here such an example has no score.
    """
    scores: list[float | None] = []
    failed: dict[str, str] = {}
    for number, example in enumerate(examples):
        context = context_of(example, model)
        if isinstance(context, str):
            failed[_name(example, number)] = context
            scores.append(None)
            continue
        try:
            if weights is not None:
                scores.append(weights.score(*context, empty=empty))
            else:
                scores.append(
                    udcg(
                        *context,
                        relevant_weight=relevant_weight,
                        irrelevant_weight=irrelevant_weight,
                        empty=empty,
                    )
                )
        except ValueError as error:
            raise ValueError(f"{_name(example, number)}: {error}") from None
    return Scored(tuple(scores), failed, sum(not example["passages"] for example in examples))


def context_of(example: Example, model: str) -> tuple[list[bool], list[float]] | str:
    """Return (relevant, abstention) of an example, or what is missing, in words."""
    abstention = []
    for place, passage in enumerate(example["passages"], start=1):
        info = (passage.get("models_info") or {}).get(model) or {}
        probability = info.get("no_res_prob")
        if not isinstance(probability, int | float) or isinstance(probability, bool):
            name = passage.get("doc_id", place)
            return f"passage {name} has no probability of {model}"
        abstention.append(float(probability))
    return [bool(passage["is_relevant"]) for passage in example["passages"]], abstention


def with_scores(examples: Sequence[Example], model: str, scored: Scored) -> list[Example]:
    """Return the examples with `udcg.<model>`; an example without a score gets none."""
    result = []
    for example, score in zip(examples, scored.scores, strict=True):
        if score is not None:
            example = example | {"udcg": {**example.get("udcg", {}), model: score}}
        result.append(example)
    return result


def with_probabilities(
    examples: Sequence[Example], model: str, probabilities: Mapping[tuple[int, int], float]
) -> list[Example]:
    """Return the examples with `no_res_prob` of `model`; keys are (example, passage) from 0."""
    result = []
    for number, example in enumerate(examples):
        passages = []
        for place, passage in enumerate(example["passages"]):
            if (number, place) in probabilities:
                info = {"no_res_prob": probabilities[number, place]}
                passage = passage | {
                    "models_info": {**(passage.get("models_info") or {}), model: info}
                }
            passages.append(passage)
        result.append(example | {"passages": passages})
    return result


def write_examples(path: PathLike, examples: Sequence[Example]) -> None:
    """Write examples as the published files are (two spaces, ASCII), whole or not at all."""
    write_text(path, json.dumps(examples, indent=2))


def examples_from_run(
    queries: Mapping[str, str],
    passages: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    ranked: Mapping[str, Sequence[str]],
    *,
    depth: int = 5,
    minimum_grade: int = 1,
) -> list[Example]:
    """Return one example per query of `qrels`: the texts of its first `depth` passages.

    A query that `ranked` lacks gets an empty context. A passage is relevant from `minimum_grade`
    on; unjudged ones are not. Raises `ValueError` for a query or passage without text.
    """
    examples = []
    for query_id, grades in qrels.items():
        if query_id not in queries:
            raise ValueError(f"query {query_id!r} of the qrels has no text in the collection")
        context = []
        for passage_id in list(ranked.get(query_id, ()))[:depth]:
            if passage_id not in passages:
                raise ValueError(f"passage {passage_id!r} of the run has no text in the corpus")
            context.append(
                {
                    "doc_id": passage_id,
                    "text": passages[passage_id],
                    "is_relevant": grades.get(passage_id, 0) >= minimum_grade,
                }
            )
        examples.append(
            {"example_id": query_id, "question": queries[query_id], "passages": context}
        )
    return examples


def _name(example: Any, number: int) -> str:
    named = example.get("example_id") if isinstance(example, dict) else None
    return str(named) if named is not None else f"example {number + 1}"
