"""Which examples a step reads, and which of their passages: a pure function of the seed.

Enters: examples of several sources and a step's number. Leaves: its prompts' queries, passages and
labels. Nothing is remembered between steps, so a resumed run reads what an unbroken one would.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rerank.examples.labelled import Example
from rerank.prompt.candidates import Candidate


class Prompt(NamedTuple):
    """A query, its passages with grades [N], and a teacher's scores [N], NaN where it has none."""

    query: str
    passages: tuple[Candidate, ...]
    grades: tuple[int, ...]
    teacher: tuple[float, ...]


class Order:
    """The endless order of prompts over all epochs."""

    def __init__(
        self,
        sources: Sequence[Sequence[Example]],
        weights: Sequence[float],
        *,
        passages: int,
        seed: int,
    ) -> None:
        """An epoch draws `weights[i]` times the number of examples of source i."""
        self._sources = sources
        self._weights = weights
        self._passages = passages
        self._seed = seed
        self.epoch_length = sum(map(len, self._counts()))
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def prompts(self, start: int, count: int) -> list[Prompt]:
        """Prompts [start, start + count) of the order."""
        found = []
        for place in range(start, start + count):
            epoch, offset = divmod(place, self.epoch_length)
            source, index = self._epoch(epoch)[offset]
            example = self._sources[source][index]
            generator = np.random.default_rng([self._seed, 1, epoch, offset])
            found.append(sampled(example, self._passages, generator))
        return found

    def _counts(self) -> list[range]:
        pairs = zip(self._sources, self._weights, strict=True)
        return [range(max(1, round(len(source) * weight))) for source, weight in pairs]

    def _shuffled(self, epoch: int) -> list[tuple[int, int]]:
        """(source, example) in the epoch's order; an example comes again only after all others."""
        generator = np.random.default_rng([self._seed, 0, epoch])
        drawn = []
        for source, counts in enumerate(self._counts()):
            size = len(self._sources[source])
            rounds = [generator.permutation(size) for _ in range(-(-len(counts) // size))]
            drawn += [(source, int(i)) for i in np.concatenate(rounds)[: len(counts)]]
        return [drawn[place] for place in generator.permutation(len(drawn))]


def sampled(example: Example, passages: int, generator: np.random.Generator) -> Prompt:
    """At most `passages` of the example's passages.

    Relevant ones fill no more than half of the places if there are others to fill the rest.
    """
    positives = [p for p in example.passages if p.id in example.positives]
    others = [p for p in example.passages if p.id not in example.positives]
    room = max(passages - len(others), -(-passages // 2))
    kept = _drawn(positives, min(room, passages), generator)
    kept += _drawn(others, passages - len(kept), generator)
    return Prompt(
        example.query,
        tuple(kept),
        tuple(example.relevant.get(p.id, 0) for p in kept),
        tuple(example.scores.get(p.id, float("nan")) for p in kept),
    )


def with_borrowed(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Each prompt with the relevant passages of the `count` next ones, the first after the last.

    They are not relevant here, and no teacher knows them. A text that a prompt has is not added.
    """
    longer = []
    for number, prompt in enumerate(prompts):
        texts = {(passage.title, passage.text) for passage in prompt.passages}
        added: list[Candidate] = []
        for step in range(1, min(count, len(prompts) - 1) + 1):
            other = prompts[(number + step) % len(prompts)]
            for passage, grade in zip(other.passages, other.grades, strict=True):
                key = (passage.title, passage.text)
                if grade > 0 and key not in texts:
                    texts.add(key)
                    added.append(passage)
        longer.append(
            prompt._replace(
                passages=(*prompt.passages, *added),
                grades=(*prompt.grades, *([0] * len(added))),
                teacher=(*prompt.teacher, *([float("nan")] * len(added))),
            )
        )
    return longer


def _drawn(
    passages: Sequence[Candidate], count: int, generator: np.random.Generator
) -> list[Candidate]:
    if len(passages) <= count:
        return list(passages)
    chosen = generator.choice(len(passages), size=count, replace=False)
    return [passages[place] for place in sorted(chosen)]
