"""Passages on their way to another machine, as JSON: metadata may hold dates, which JSON does not.

Enters: passages. Leaves: a text, and the same passages again.

    read_passages(write_passages([Passage("p1", "", "Bees.", {"seen": date(2026, 6, 1)})]))
"""

import json
from collections.abc import Sequence
from datetime import date, datetime

from index.records import Passage


def write_passages(passages: Sequence[Passage]) -> str:
    """The passages as one text. A date or a time becomes a list of its kind and ISO 8601."""
    return json.dumps(passages, default=_dated)


def read_passages(text: str) -> list[Passage]:
    """The passages that `write_passages` wrote."""
    kinds = {"date": date, "time": datetime}
    return [
        Passage(
            id_,
            title,
            full,
            {
                # Nothing else that metadata holds is a list.
                name: kinds[value[0]].fromisoformat(value[1]) if isinstance(value, list) else value
                for name, value in metadata.items()
            },
        )
        for id_, title, full, metadata in json.loads(text)
    ]


def _dated(value: object) -> list[str]:
    if isinstance(value, datetime):  # which is a date too
        return ["time", value.isoformat()]
    if isinstance(value, date):
        return ["date", value.isoformat()]
    raise TypeError(f"metadata holds {value!r:.80}")
