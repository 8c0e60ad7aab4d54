"""What a corpus reader yields, and the guard that turns it into passages.

Enters: records as they stand in a file. Leaves: passages with unique ids and some text, or one
error that names the place; with `skip_bad`, a count and a list of what was left out.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from configs.formats.checks import id_fault, is_blank, text_fault
from index.records import Passage


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


def checked(records: Iterable[Record], skipped: Skipped | None = None) -> Iterator[Passage]:
    """The passages of `records`.

    A broken record, a bad id (`configs.formats.checks`), a passage without a visible character and
    an id seen before raise `ValueError` naming the place; with `skipped` they are left out and
    counted there (of equal ids the first stays).
    """
    # Digests, not ids: eight bytes each keep the memory of a corpus of millions small.
    seen: set[bytes] = set()
    for place, passage, fault in records:
        if passage is not None:
            fault = id_fault(passage.id) or _passage_fault(passage)
            if not fault:
                key = hashlib.blake2b(passage.id.encode(), digest_size=8).digest()
                if key not in seen:
                    seen.add(key)
                    yield passage
                    continue
                fault = f"id {passage.id!r} occurred before"
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
