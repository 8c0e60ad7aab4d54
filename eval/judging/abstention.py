"""The probability that a reader abstains, given one passage: what UDCG is made of.

Enters: examples of the UDCG format, a reader, a cache. Leaves: probabilities by passage.
Source: arXiv 2510.21440 and its repository (prompt and first token of NO-RESPONSE).

    found = abstention_probabilities(examples, reader, cache)
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.files.udcg_examples import Example
from eval.judging.readers import Failure, Prompt, Reader
from eval.judging.readers.answer_cache import AnswerCache

NO_RESPONSE = "NO-RESPONSE"

# Word for word the published prompt: other words give other probabilities.
SYSTEM = (
    "You are given a question and you must respond based on the provided documents. "
    "Respond directly without providing any premise or explanation. "
    "If none of the documents contain the answer, please respond with NO-RESPONSE. "
    "Do not try to respond based on your own knowledge."
)


@dataclass(frozen=True)
class Abstention:
    """Probabilities by (example, passage), both counted from 0, and what failed by the same key."""

    probabilities: dict[tuple[int, int], float]
    failures: dict[tuple[int, int], str]


def abstention_prompt(question: str, passage: str) -> Prompt:
    """Return the published prompt for one passage."""
    return Prompt(SYSTEM, f"Document: {passage}\nQuestion: {question}\nAnswer:")


def abstention_probabilities(
    examples: Sequence[Example], reader: Reader, cache: AnswerCache, *, progress: Any = None
) -> Abstention:
    """Return P(the answer opens with the first token of NO-RESPONSE | question, one passage).

    `progress` is called with 1 after each passage. A passage that the reader gave nothing for is
    a failure and has no probability.
    """
    keys = [
        (number, place)
        for number, example in enumerate(examples)
        for place in range(len(example["passages"]))
    ]
    prompts = [
        abstention_prompt(examples[number]["question"], examples[number]["passages"][place]["text"])
        for number, place in keys
    ]
    probabilities: dict[tuple[int, int], float] = {}
    failures: dict[tuple[int, int], str] = {}
    task = json.dumps(["first token", NO_RESPONSE])
    for row, found in cache.through(
        task,
        reader.identity,
        prompts,
        lambda some: reader.first_token_probabilities(some, [NO_RESPONSE]),
    ):
        if isinstance(found, Failure):
            failures[keys[row]] = found.reason
        else:
            probabilities[keys[row]] = found[0]
        if progress is not None:
            progress(1)
    return Abstention(probabilities, failures)
