"""Where a filter's labels come from: qrels, or pseudo-labels that say that they are.

Enters: a collection, a qrels file with its queries, or known items. Leaves: queries, judgements
and the name of their source, which stays with everything made from them.

    read_labels(collection="scifact-folder")
"""

import json
from pathlib import Path
from typing import NamedTuple

from retrieval.adapter.fit import KNOWN_ITEM, LABEL_SOURCES, QRELS


class QueryLabels(NamedTuple):
    """Query text by id, grades by query and passage id, and where the grades come from."""

    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    source: str


def read_labels(
    *,
    collection: str | None = None,
    split: str = "test",
    queries: Path | None = None,
    qrels: Path | None = None,
    known_items: Path | None = None,
    source: str | None = None,
) -> QueryLabels:
    """Labels of the queries that have any, from one of three places.

    A `collection` (BEIR folder or ir_datasets id) brings queries and qrels; a `qrels` file, with
    queries from `queries` or the collection, replaces its judgements (an LLM judge's, say, with
    `source="pseudo:judge"`); `known_items` are queries written for one passage each, and always
    `pseudo:known-item`: every other passage counts as irrelevant, which some are not. A collection
    of known items is one too: say so with `source`.
    """
    if source not in (None, *LABEL_SOURCES):
        raise ValueError(f"label source {source!r} is not one of {', '.join(LABEL_SOURCES)}")
    if known_items is not None:
        if collection or queries or qrels:
            raise ValueError(
                "--known-items brings its own queries and labels; drop the other options"
            )
        if source not in (None, KNOWN_ITEM):
            raise ValueError(f"known items are {KNOWN_ITEM} labels, not {source}")
        return _known_items(known_items)
    texts: dict[str, str] = {}
    grades: dict[str, dict[str, int]] = {}
    if collection is not None:
        from retrieval.corpora import load_collection

        _, texts, grades = load_collection(collection, split)
    if queries is not None:
        from retrieval.corpora import read_queries

        texts = read_queries(queries)
    if qrels is not None:
        grades = read_qrels_file(qrels)
    if not texts or not grades:
        raise ValueError("no labels: name a --collection, --queries with --qrels, or --known-items")
    labelled = {query_id: text for query_id, text in texts.items() if query_id in grades}
    if not labelled:
        raise ValueError("no query has a judgement: the ids of queries and qrels do not meet")
    return QueryLabels(labelled, grades, source or QRELS)


def read_qrels_file(path: Path) -> dict[str, dict[str, int]]:
    """Grades by query and passage id, from TREC's four columns or BEIR's three with a header.

    Raises `ValueError` naming the line that has neither shape or repeats a pair.
    """
    from retrieval.corpora.records import NOT_UTF8, text_lines

    if not path.is_file():
        raise ValueError(f"qrels file {path} does not exist")
    qrels: dict[str, dict[str, int]] = {}
    for number, (place, line) in enumerate(text_lines(path)):
        if line is None:
            raise ValueError(f"{place}: {NOT_UTF8}")
        columns = line.split()
        if not columns or (number == 0 and columns[0].lower() in ("query-id", "query_id")):
            continue
        try:
            query_id, passage_id = columns[0], columns[-2]
            grade = int(columns[-1])
        except (ValueError, IndexError):
            columns = []
        if len(columns) not in (3, 4):
            raise ValueError(
                f"{place}: {line!r}, wanted `query 0 passage grade` or `query passage grade` "
                "with an integer grade"
            )
        if passage_id in qrels.setdefault(query_id, {}):
            raise ValueError(f"{place}: query {query_id!r} judges passage {passage_id!r} twice")
        qrels[query_id][passage_id] = grade
    return qrels


def _known_items(path: Path) -> QueryLabels:
    """JSON Lines of `query` and `id`, the passage it was written for; `query_id` where given."""
    from retrieval.corpora.records import NOT_UTF8, text_lines

    if not path.is_file():
        raise ValueError(f"known-item file {path} does not exist")
    texts: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for place, line in text_lines(path):
        if line is None:
            raise ValueError(f"{place}: {NOT_UTF8}")
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            text, passage_id = str(item["query"]), str(item["id"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f'{place}: wanted {{"query": text, "id": passage}}, got {line!r}'
            ) from None
        query_id = str(item.get("query_id", f"known-{len(texts) + 1}"))
        if query_id in texts:
            raise ValueError(f"{place}: query id {query_id!r} occurred before")
        texts[query_id], qrels[query_id] = text, {passage_id: 1}
    if not texts:
        raise ValueError(f"known-item file {path} is empty")
    return QueryLabels(texts, qrels, KNOWN_ITEM)
