"""A collection with its judged queries, or a small garden where none is named.

Enters: a BEIR folder or an ir_datasets id. Leaves: its passages, queries and judgments.

    passages, queries, qrels = asked("my-collection", most=100)
"""

from typing import NamedTuple

from index.records import Passage
from retrieval.corpora import load_collection, open_corpus
from retrieval.corpora.records import Skipped

_GARDEN = [
    Passage(plant, plant.title(), f"Sow {plant} in {month}, and keep {animal} away from them.")
    for plant, month, animal in [
        ("beans", "May", "slugs"), ("leeks", "March", "moths"), ("chard", "April", "birds"),
        ("peas", "February", "mice"),
    ]
]  # fmt: skip


class Asked(NamedTuple):
    """Passages, queries by id, and judgments of each of them."""

    passages: list[Passage]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def asked(collection: str, most: int | None = None) -> Asked:
    """All passages of `collection` and the first `most` of its judged queries, or all of them."""
    _, texts, qrels = load_collection(collection)
    passages = list(open_corpus(collection, Skipped()))
    judged = [name for name in texts if name in qrels][:most]
    return Asked(
        passages, {name: texts[name] for name in judged}, {name: qrels[name] for name in judged}
    )


def garden() -> Asked:
    """Four passages, each with a query of its own."""
    queries = {passage.id: f"when are {passage.id} sown?" for passage in _GARDEN}
    return Asked(_GARDEN, queries, {passage.id: {passage.id: 1} for passage in _GARDEN})
