"""What a corpus reader yields, and the guard that turns it into passages.

Enters: records as they stand in a file. Leaves: passages with unique ids and some text, or one
error that names the place; with `skip_bad`, a count and a list of what was left out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from configs.formats.checks import id_fault, is_blank, text_fault
from index.manifest.columns import Columns
from index.records import Passage
from retrieval.corpora.reading import Reading
from retrieval.corpora.seen import SeenIds


class Record(NamedTuple):
    """One record of a source: where it stands, and the passage or what is wrong with it."""

    place: str
    passage: Passage | None
    fault: str = ""


@dataclass
class Skipped:
    """What `--skip-bad` left out: how many records, and the first of them in words."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        """Count one more, and keep its words if it is among the first."""
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(what)


_EXAMPLES = 20


def checked(
    records: Iterable[Record], skipped: Skipped | None = None, reading: Reading | None = None
) -> Iterator[Passage]:
    """The passages of `records`, with a value or None for every column of `reading`.

    A broken record, a bad id (`configs.formats.checks`), a passage without a visible character, an
    id seen before and a kept field of another type raise `ValueError` naming the place; with
    `skipped` they are left out and counted there (of equal ids the first stays). No record is read
    beyond the limit of `reading`.
    """
    reading = reading or Reading()
    return islice(_good(records, skipped, reading.columns), reading.limit)


def _good(
    records: Iterable[Record], skipped: Skipped | None, columns: Columns
) -> Iterator[Passage]:
    seen = SeenIds()
    for place, passage, fault in records:
        if passage is not None:
            fault = id_fault(passage.id) or _passage_fault(passage)
            if not fault:
                try:
                    if passage.id in seen:
                        raise ValueError(f"id {passage.id!r} occurred before")
                    passage = passage._replace(metadata=columns.checked(passage.metadata))
                except ValueError as error:
                    fault = str(error)
                else:
                    seen.add(passage.id)
                    yield passage
                    continue
        if skipped is None:
            raise ValueError(f"{place}: {fault} (mend it, or leave such records out: --skip-bad)")
        skipped.add(f"{place}: {fault}")


def _passage_fault(passage: Passage) -> str:
    for name, text in (("title", passage.title), ("text", passage.text)):
        if fault := text_fault(text):
            return f"passage {passage.id!r}: its {name} has {fault}"
    if is_blank(passage.text) and is_blank(passage.title):
        return f"passage {passage.id!r} has no text: no character of it is visible"
    return ""
