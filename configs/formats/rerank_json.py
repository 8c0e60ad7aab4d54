"""The JSON of hosted rerank services: a request in, a response out; no model, and no server.

Enters: {"query": str, "documents": [str | {"text": str, "title"?: str}]} with, if wanted, "model",
"top_n", "return_documents" and "max_tokens_per_doc", as Cohere's, Jina's and vLLM's clients send
it; or {"query", "texts"} with "return_text" and "raw_scores", as those of TEI
(text-embeddings-inference) do. Leaves: {"model", "results": [{"index", "relevance_score",
"document"?}], "usage": {"total_tokens"}}, or TEI's [{"index", "score", "text"?}]; best first.

    request = read_request({"query": "who wrote Faust?", "documents": ["A pear.", "Goethe."]})
    write_response(request, scores=[0.1, 2.0], relevance=[0.2, 0.9], tokens=14, model="mini")
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from configs.formats.checks import check_query, is_blank, named_type, text_fault
from configs.formats.fields import text_fields

# `priority`, `user`, `truncate`: what these clients may add and what changes no score here.
_TAKEN = ("priority", "user", "truncate")
FIELDS = (
    "model", "query", "documents", "top_n", "return_documents", "max_tokens_per_doc", *_TAKEN,
)  # fmt: skip
TEI_FIELDS = ("query", "texts", "return_text", "raw_scores", *_TAKEN)
_DOCUMENT_FIELDS = ("title", "text")


class RerankRequest(NamedTuple):
    """A checked request; documents are dicts of `text` and perhaps `title`.

    `of_tei`: it came, and is answered, in TEI's shape.
    """

    model: str | None
    query: str
    documents: list[dict[str, str]]
    top_n: int | None
    return_documents: bool
    max_tokens_per_doc: int | None = None
    raw_scores: bool = False
    of_tei: bool = False


def read_request(body: Any) -> RerankRequest:
    """Check a request. Raises `ValueError` naming the field that is missing, unknown or wrong."""
    if not isinstance(body, Mapping):
        raise ValueError(f"the request is a {type(body).__name__}, wanted a JSON object")
    of_tei = "texts" in body and "documents" not in body
    known, documents_name = (TEI_FIELDS, "texts") if of_tei else (FIELDS, "documents")
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; known: {', '.join(known)}")
    query, documents = body.get("query"), body.get(documents_name)
    if not isinstance(query, str):
        raise ValueError("'query' is missing or no string")
    check_query(query, "'query'")
    if not isinstance(documents, list) or not documents:
        raise ValueError(
            f"{documents_name!r} is missing or empty, wanted a list of strings or objects"
        )
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise ValueError(f"'model' is {model!r}, wanted a string")
    return RerankRequest(
        model=model,
        query=query,
        top_n=_count(body, "top_n"),
        return_documents=_flag(body, "return_text" if of_tei else "return_documents"),
        documents=[
            _document(f"{documents_name!r}[{number}]", number, document)
            for number, document in enumerate(documents)
        ],
        max_tokens_per_doc=_count(body, "max_tokens_per_doc"),
        raw_scores=_flag(body, "raw_scores"),
        of_tei=of_tei,
    )


def write_response(
    request: RerankRequest,
    *,
    scores: Sequence[float],
    relevance: Sequence[float],
    tokens: int,
    model: str,
) -> Any:
    """The response to `request`: its documents by (score descending, place), blank ones last.

    `scores` and `relevance`, what a client is told of a score, are in the documents' order;
    `tokens` counts what the model read.
    """
    blank = [
        all(is_blank(document.get(name, "")) for name in _DOCUMENT_FIELDS)
        for document in request.documents
    ]
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], blank[place], place))
    results: list[dict[str, Any]] = []
    for place in order[: request.top_n]:
        document = request.documents[place]
        if request.of_tei:
            value = scores[place] if request.raw_scores else relevance[place]
            result: dict[str, Any] = {"index": place, "score": value}
            if request.return_documents:
                result["text"] = document.get("text", "")
        else:
            result = {"index": place, "relevance_score": relevance[place]}
            if request.return_documents:
                result["document"] = document
        results.append(result)
    if request.of_tei:
        return results
    return {"model": model, "results": results, "usage": {"total_tokens": tokens}}


def _count(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name!r} is {value!r:.80}, wanted a whole number from 1")
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{name!r} is {value!r:.80}, wanted true or false")
    return value


def _document(name: str, number: int, document: Any) -> dict[str, str]:
    given = {"text": document} if isinstance(document, str) else document
    if not isinstance(given, Mapping):
        raise ValueError(f"{name}: {named_type(document)}, wanted a string or {{'text': ...}}")
    fields = {field: given[field] for field in _DOCUMENT_FIELDS if given.get(field) is not None}
    try:
        found = text_fields(fields)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    for field in _DOCUMENT_FIELDS:
        if fault := text_fault(getattr(found, field)):
            raise ValueError(f"{name}: the {field} has {fault}")
    return fields
