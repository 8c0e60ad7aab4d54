from datetime import UTC, date, datetime

from index.records import Passage
from retrieval.engines.passage_json import read_passages, write_passages


def test_passages_come_back_with_every_kind_of_metadata():
    metadata = {
        "date": date(2026, 6, 1),  # a column may have the name of a kind
        "time": datetime(2026, 6, 1, 12, 30, 5, 250),
        "zoned": datetime(2026, 6, 1, tzinfo=UTC),
        "year": 2026,
        "share": 0.5,
        "open": True,
        "lang": "säen",
        "none": None,
    }
    passages = [Passage("p1", "Bees", "Borage feeds bees.", metadata), Passage("p2", "", "🐝\n")]
    assert read_passages(write_passages(passages)) == passages
    kinds = [type(value) for value in read_passages(write_passages(passages))[0].metadata.values()]
    assert kinds == [type(value) for value in metadata.values()]
