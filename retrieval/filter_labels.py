"""Where a filter's labels come from: qrels, or pseudo-labels that say that they are.

Enters: a collection, a qrels file with its queries, or known items. Leaves: queries, judgements
and the name of their source, which stays with everything made from them.

    read_labels(collection="scifact-folder")
"""

from pathlib import Path
from typing import Any, NamedTuple

from configs.formats.checks import as_id, check_query
from configs.formats.lines import json_lines
from configs.formats.qrels import read_qrels
from retrieval.adapter.fit import KNOWN_ITEM, LABEL_SOURCES, QRELS


class QueryLabels(NamedTuple):
    """Query text by id, grades by query and passage id, and where the grades come from.

    `without_text` are judged queries that nobody can ask: no filter is fitted or measured on them.
    """

    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    source: str
    without_text: tuple[str, ...] = ()


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
        from configs.formats.queries import read_queries

        texts = read_queries(queries)
    if qrels is not None:
        grades = read_qrels(qrels)
    if not texts or not grades:
        raise ValueError("no labels: name a --collection, --queries with --qrels, or --known-items")
    labelled = {query_id: text for query_id, text in texts.items() if query_id in grades}
    if not labelled:
        raise ValueError("no query has a judgement: the ids of queries and qrels do not meet")
    without_text = tuple(query_id for query_id in grades if query_id not in texts)
    return QueryLabels(labelled, grades, source or QRELS, without_text)


def _known_items(path: Path) -> QueryLabels:
    """JSON Lines of `query` and `id`, the passage it was written for; `query_id` where given."""
    texts: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for number, item in json_lines(path):
        try:
            query_id, text, passage_id = _known_item(item, f"known-{len(texts) + 1}")
            if query_id in texts:
                raise ValueError(f"query id {query_id!r} occurred before")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        texts[query_id], qrels[query_id] = text, {passage_id: 1}
    if not texts:
        raise ValueError(f"known-item file {path} is empty")
    return QueryLabels(texts, qrels, KNOWN_ITEM)


def _known_item(item: Any, name: str) -> tuple[str, str, str]:
    """Its query's id (else `name`), its query and its passage's id."""
    if not isinstance(item, dict) or not {"query", "id"} <= item.keys():
        raise ValueError(f'wanted {{"query": text, "id": passage}}, got {item!r:.80}')
    query_id = as_id(item.get("query_id", name))
    check_query(item["query"], f"query {query_id!r}")
    return query_id, item["query"], as_id(item["id"])
