"""What the engine is about: a passage of a corpus, and a hit of a search."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import NamedTuple

# What a kept field of a passage may hold; None where the passage lacks it.
Value = str | int | float | bool | date | datetime | None


class Passage(NamedTuple):
    """One passage of a corpus. `title` may be empty; ids are strings and survive to the end.

    `metadata` holds the fields that were kept of it (`build --keep`), by name; it is read, never
    changed.
    """

    id: str
    title: str
    text: str
    metadata: Mapping[str, Value] = {}

    @property
    def full_text(self) -> str:
        """The title, if there is one, then the text: what an encoder reads."""
        return f"{self.title}\n{self.text}" if self.title and self.text else self.title or self.text


class Hit(NamedTuple):
    """A passage found for a query: its id, its score (higher is better) and its rank from 1.

    Where hits were grouped by document, `id` is the document's, and `chunk` the id of the passage
    that stands for it.
    """

    id: str
    score: float
    rank: int
    chunk: str = ""

    @property
    def passage_id(self) -> str:
        """The id of the passage to read."""
        return self.chunk or self.id
