"""A language model labels query-passage pairs.

Enters: pairs with their texts, a judge prompt, a reader, a cache. Leaves: grades and failures.

    judged = judge_pairs(pairs, queries, passages, read_judge_prompt("binary"), reader, cache)
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from eval.files.trec import Judgment, Qrels
from eval.judging.prompts import JudgePrompt
from eval.judging.readers import Failure, Prompt, Reader
from eval.judging.readers.answer_cache import AnswerCache

Mode = Literal["generate", "likelihood"]


class Pair(NamedTuple):
    """A query and a passage, by id."""

    query_id: str
    passage_id: str


@dataclass(frozen=True)
class Judged:
    """Grades of the pairs that got one, in the order asked, and reasons for those that did not."""

    judgments: tuple[Judgment, ...]
    failures: dict[Pair, str]

    def as_qrels(self) -> Qrels:
        """Return the grades as qrels; a pair that failed is not in them."""
        qrels: Qrels = {}
        for query_id, passage_id, grade in self.judgments:
            qrels.setdefault(query_id, {})[passage_id] = grade
        return qrels


def judge_pairs(
    pairs: Sequence[Pair],
    queries: Mapping[str, str],
    passages: Mapping[str, str],
    prompt: JudgePrompt,
    reader: Reader,
    cache: AnswerCache,
    *,
    mode: Mode = "generate",
    progress: Any = None,
) -> Judged:
    """Ask `reader` for the grade of every pair.

    `generate` lets it write and parses the answer strictly; `likelihood` takes the label whose
    first token is most likely (the lower grade of equals), which a model that cannot follow the
    form still has. An answer without a grade, or none at all, is a failure: it is listed and has
    no grade. `progress` is called with 1 after each pair. Raises `ValueError` for a pair without
    text and for an unknown mode.
    """
    for pair in pairs:
        if pair.query_id not in queries:
            raise ValueError(f"query {pair.query_id!r} has no text in the collection")
        if pair.passage_id not in passages:
            raise ValueError(
                f"passage {pair.passage_id!r} of query {pair.query_id!r} has no text in the corpus"
            )
    prompts = [prompt.ask(queries[pair.query_id], passages[pair.passage_id]) for pair in pairs]
    grades: dict[int, int] = {}
    failures: dict[int, str] = {}
    for row, grade in _grades(prompts, prompt, reader, cache, mode):
        if isinstance(grade, Failure):
            failures[row] = grade.reason
        else:
            grades[row] = grade
        if progress is not None:
            progress(1)
    return Judged(
        tuple(Judgment(*pairs[row], grades[row]) for row in sorted(grades)),
        {pairs[row]: failures[row] for row in sorted(failures)},
    )


def _grades(
    prompts: Sequence[Prompt],
    prompt: JudgePrompt,
    reader: Reader,
    cache: AnswerCache,
    mode: Mode,
) -> Iterator[tuple[int, int | Failure]]:
    if mode == "generate":
        task = json.dumps(["generate", prompt.max_tokens])
        answers = cache.through(
            task, reader.identity, prompts, lambda some: reader.answers(some, prompt.max_tokens)
        )
        for row, answer in answers:
            if isinstance(answer, Failure):
                yield row, answer
                continue
            grade = prompt.parse(answer)
            shown = " ".join(answer.split())[:80]
            yield row, Failure(f"no grade in the answer {shown!r}") if grade is None else grade
    elif mode == "likelihood":
        task = json.dumps(["likelihood", prompt.labels])
        rows = cache.through(
            task,
            reader.identity,
            prompts,
            lambda some: reader.first_token_probabilities(some, prompt.labels),
        )
        for row, likelihoods in rows:
            if isinstance(likelihoods, Failure):
                yield row, likelihoods
            elif max(likelihoods) <= 0:
                yield row, Failure("no label has a likelihood above 0")
            else:
                yield row, prompt.lowest + likelihoods.index(max(likelihoods))
    else:
        raise ValueError(f"mode must be 'generate' or 'likelihood', got {mode!r}")


def pairs_of(qrels: Mapping[str, Iterable[str]]) -> list[Pair]:
    """Return all pairs of qrels or of ranked lists, in their order."""
    return [Pair(query_id, passage_id) for query_id, ids in qrels.items() for passage_id in ids]


def sample_pairs(pairs: Sequence[Pair], count: int | None, seed: int = 0) -> list[Pair]:
    """Return `count` pairs drawn without replacement, in their old order; all for None."""
    if count is None or count >= len(pairs):
        return list(pairs)
    if count < 1:
        raise ValueError(f"a sample has at least 1 pair, got {count}")
    chosen = sorted(random.Random(seed).sample(range(len(pairs)), count))
    return [pairs[row] for row in chosen]
