"""What a corpus reader yields, and the guard that turns it into passages.

Enters: records as they stand in a file. Leaves: passages with unique ids and some text, or one
error that names the place; with `skip_bad`, a count and a list of what was left out.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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

    A broken record, an empty passage and an id seen before raise `ValueError` naming the place;
    with `skipped` they are left out and counted there (of equal ids the first stays).
    """
    # Digests, not ids: eight bytes each keep the memory of a corpus of millions small.
    seen: set[bytes] = set()
    for place, passage, fault in records:
        if passage is not None:
            key = hashlib.blake2b(passage.id.encode("utf-8", "replace"), digest_size=8).digest()
            if not _is_unicode(passage):
                fault = "half of a surrogate pair, which is no character"
            elif not passage.id:
                fault = "the id is empty"
            elif key in seen:
                fault = f"id {passage.id!r} occurred before"
            elif not passage.text.strip() and not passage.title.strip():
                fault = f"passage {passage.id!r} has no text"
            if not fault:
                seen.add(key)
                yield passage
                continue
        if skipped is None:
            raise ValueError(f"{place}: {fault} (mend it, or leave such records out: --skip-bad)")
        skipped.add(f"{place}: {fault}")


def _is_unicode(passage: Passage) -> bool:
    """JSON can spell lone surrogates, which no tokenizer and no file takes."""
    try:
        "".join(passage).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def text_lines(path: Path) -> Iterator[tuple[str, str | None]]:
    """The lines of a UTF-8 file, plain or `.gz`: (place, line), line None where it is not UTF-8."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, raw in enumerate(file, 1):
                place = f"{path}:{number}"
                try:
                    yield place, raw.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError:
                    yield place, None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is no whole gzip file: {error}") from None


NOT_UTF8 = "not UTF-8"
