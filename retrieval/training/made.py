"""Pairs made of a corpus alone: a part of a passage asks for the rest of it.

Enters: passages. Leaves: pairs, as a seed decides.

    list(made_pairs([Passage("p", "How to pick pears", "Late, green, by hand.")], ["title"], 0))

The tasks are those that encoders are pre-trained with (Chang et al., arXiv 2002.03932): the inverse
cloze task (Lee et al., arXiv 1906.00300), whose query is any sentence; body first, whose query is
the first; and title to text. A query is always taken out of its passage: left in, it would be found
by its letters.
"""

import random
from collections.abc import Iterable, Iterator, Sequence

from configs.formats.chunks import Span, sentences
from index.records import Passage
from retrieval.training.pairs import Pair

INVERSE_CLOZE, BODY_FIRST, TITLE = "inverse-cloze", "body-first", "title"
TASKS = (INVERSE_CLOZE, BODY_FIRST, TITLE)
# A sentence of fewer words ("See below.") asks for nothing; neither does a rest of fewer.
_FEWEST_WORDS = 4


def made_pairs(passages: Iterable[Passage], tasks: Sequence[str], seed: int) -> Iterator[Pair]:
    """A pair for each task and passage, where the passage has what the task takes.

    A passage's pairs follow from the seed and the passage alone, whatever else is in the corpus.
    Raises `ValueError` for a task that there is not.
    """
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"task {task!r} is not one of {', '.join(TASKS)}")
    for passage in passages:
        for task in tasks:
            parts = _parts(task, passage, random.Random(f"{seed} {task} {passage.id}"))
            if parts is not None and min(map(_words, parts)) >= _FEWEST_WORDS:
                yield Pair(*parts[:1], passage.id, parts[1], passage.id)


def _parts(task: str, passage: Passage, chance: random.Random) -> tuple[str, str] | None:
    """The query and what is left of the passage, or None where it can't be parted."""
    if task == TITLE:
        return (passage.title, passage.text) if passage.title else None
    spans = list(sentences(passage.text))
    if len(spans) < 2:
        return None
    taken = spans[0] if task == BODY_FIRST else _any(passage.text, spans, chance)
    rest = passage.text[: taken.start] + passage.text[taken.end :]
    return passage.text[taken.start : taken.end].strip(), passage._replace(text=rest).full_text


def _any(text: str, spans: Sequence[Span], chance: random.Random) -> Span:
    """One of the sentences that are long enough, or of all where none is."""
    long = [span for span in spans if _words(text[span.start : span.end]) >= _FEWEST_WORDS]
    return chance.choice(long or list(spans))


def _words(text: str) -> int:
    return len(text.split())
