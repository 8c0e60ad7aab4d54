"""Any collection that ir_datasets knows, by its id (`beir/scifact/test`)."""

from collections.abc import Iterator
from typing import Any

from configs.formats.checks import id_fault, text_fault
from configs.formats.qrels import Qrels, collect_qrels
from index.records import Passage
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Record

_TEXT_FIELDS = ("text", "body", "abstract", "contents", "doc")


def load(dataset_id: str, neither: str = "corpus {!r} is no file, no folder, not `pydoc`,") -> Any:
    """The ir_datasets dataset of that id; raises `ValueError` when there is none.

    `neither` begins that sentence: what else was looked for under the id.
    """
    import ir_datasets

    try:
        return ir_datasets.load(dataset_id)
    except KeyError:
        raise ValueError(f"{neither.format(dataset_id)} and no ir_datasets id") from None


def read_ir_datasets_corpus(dataset_id: str, reading: Reading) -> Iterator[Record]:
    """The documents of that dataset; ir_datasets downloads them on first use."""
    dataset = load(dataset_id)
    if not dataset.has_docs():
        raise ValueError(f"ir_datasets {dataset_id!r} has no documents")
    fields = dataset.docs_cls()._fields
    names = [name for name in reading.names if name in fields]
    missing = [name for name in reading.names if name not in fields]
    reading.missing(dataset_id, missing, f"its documents have {', '.join(fields)}")
    reading.total = dataset.docs_metadata().get("count")  # as ir_datasets has it on record
    for number, document in enumerate(_downloaded(dataset_id, dataset.docs_iter), 1):
        title = getattr(document, "title", "") or ""
        text = next(
            (getattr(document, name) for name in _TEXT_FIELDS if hasattr(document, name)), None
        )
        if text is None:
            text = document.default_text()
        kept = {name: getattr(document, name) for name in names}
        yield Record(f"{dataset_id}:document {number}", Passage(document.doc_id, title, text, kept))


def read_ir_datasets_queries(dataset_id: str) -> dict[str, str]:
    """Query text by query id."""
    dataset = load(dataset_id)
    if not dataset.has_queries():
        raise ValueError(f"ir_datasets {dataset_id!r} has no queries; name one of its splits")
    queries: dict[str, str] = {}
    for query in _downloaded(dataset_id, dataset.queries_iter):
        if fault := id_fault(query.query_id) or text_fault(query.default_text()):
            raise ValueError(f"{dataset_id}: query {query.query_id!r}: {fault}")
        queries[query.query_id] = query.default_text()
    return queries


def read_ir_datasets_qrels(dataset_id: str) -> Qrels:
    """Grades by query id and passage id."""
    dataset = load(dataset_id, "{} is no qrels file, no folder with qrels/,")
    if not dataset.has_qrels():
        raise ValueError(f"ir_datasets {dataset_id!r} has no qrels; name one of its splits")
    judgments = _downloaded(dataset_id, dataset.qrels_iter)
    return collect_qrels(((j.query_id, j.doc_id, j.relevance) for j in judgments), dataset_id)


def _downloaded(dataset_id: str, iterate: Any) -> Iterator[Any]:
    """Iterate, saying in one sentence what failed when the download did."""
    try:
        yield from iterate()
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"ir_datasets could not fetch {dataset_id!r} ({reason}); go online once, or point "
            f"$IR_DATASETS_HOME at a copy"
        ) from None
